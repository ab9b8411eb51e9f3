package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// execute runs a program in the container with the container's environment.
func (c *container) execute(ctx context.Context, argv []string, in io.Reader, out, failures io.Writer, resize <-chan remotecommand.TerminalSize) error {
	process := c.running()
	if process == nil {
		return fmt.Errorf("container %s is not running", c.spec.Name)
	}
	c.pod.mu.Lock()
	environ := c.environ
	c.pod.mu.Unlock()
	directory := c.spec.WorkingDir
	if directory == "" {
		directory = containerHome
	}
	command, started, err := helper(enterContainer, processSpec{Argv: argv, Env: environ, Dir: directory, Target: process.Process.Pid})
	if err != nil {
		return err
	}
	defer started()
	if resize != nil {
		return executeOnTerminal(ctx, command, in, out, resize)
	}
	command.Stdout, command.Stderr = out, failures
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A process that keeps the output open must not delay the response.
	command.WaitDelay = time.Second
	if in != nil {
		// With command.Stdin, Wait would also wait until the client closes its input.
		input, err := command.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(input, in)
			_ = input.Close()
		}()
	}
	if err := command.Start(); err != nil {
		return err
	}
	return waitFor(ctx, command)
}

// waitFor waits for the helper and sends it SIGTERM when the context ends. The helper then kills the
// program, which is in another PID namespace and would outlive it.
func waitFor(ctx context.Context, command *exec.Cmd) error {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			_ = command.Process.Signal(syscall.SIGTERM)
		case <-ended:
		}
	}()
	return command.Wait()
}

func executeOnTerminal(ctx context.Context, command *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range resize {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, terminal)
		close(copied)
	}()
	err = waitFor(ctx, command)
	select {
	case <-copied:
	case <-time.After(time.Second):
	}
	return err
}

// executor serves exec requests.
type executor struct{ c *container }

// ExecInContainer handles one exec request.
func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, argv []string, in io.Reader, out, failures io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if !tty {
		resize = nil
	} else if resize == nil {
		resize = make(chan remotecommand.TerminalSize)
	}
	// A stream that the client did not request is nil, and must stay nil as an io.Writer.
	err := e.c.execute(ctx, argv, in, writer(out), writer(failures), resize)
	if exit, ok := err.(*exec.ExitError); ok {
		return utilexec.CodeExitError{Err: exit, Code: exitCode(exit.ProcessState)}
	}
	return err
}

func writer(stream io.WriteCloser) io.Writer {
	if stream == nil {
		return io.Discard
	}
	return stream
}

// forwarder serves port-forward requests.
type forwarder struct{ p *pod }

// PortForward handles one connection. A program may listen only on its loopback address, so the
// connection is opened in the pod's network namespace.
func (f forwarder) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	if f.p.network == nil {
		return fmt.Errorf("pod %s has no network yet", f.p.title())
	}
	var server net.Conn
	err := f.p.network.within(func() error {
		connection, err := dialHere("127.0.0.1", port)
		if err != nil {
			connection, err = dialHere(f.p.ip(), port)
		}
		server = connection
		return err
	})
	if err != nil {
		return fmt.Errorf("failed to connect to port %d inside pod %s: %w", port, f.p.title(), err)
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, stream)
		if half, ok := server.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	received := make(chan struct{})
	go func() {
		_, _ = io.Copy(stream, server)
		close(received)
	}()
	select {
	case <-received:
	case <-ctx.Done():
	}
	_ = stream.Close()
	_ = server.Close()
	both.Wait()
	return nil
}

// dialHere connects on the current thread. net.Dial may create its socket on another thread, which is
// in another network namespace.
func dialHere(host string, port int32) (net.Conn, error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	address := syscall.SockaddrInet4{Port: int(port)}
	copy(address.Addr[:], net.ParseIP(host).To4())
	if err := syscall.Connect(socket, &address); err != nil {
		_ = syscall.Close(socket)
		return nil, fmt.Errorf("%s: %w", net.JoinHostPort(host, strconv.Itoa(int(port))), err)
	}
	file := os.NewFile(uintptr(socket), "forward")
	defer file.Close()
	return net.FileConn(file)
}
