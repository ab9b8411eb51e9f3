package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	insideVariable = "DAGSTER_RAY_CLUSTER_INSIDE"
	lockFile       = "lock"
	// How long the inner process may take to end after SIGTERM before it is killed.
	stopLimit = 10 * time.Second
)

// readiness describes a cluster that is ready: the content of ready.json.
type readiness struct {
	State            string  `json:"state"`
	Kubeconfig       string  `json:"kubeconfig"`
	KubeconfigInside string  `json:"kubeconfig_inside"`
	Pid              int     `json:"pid"`
	Control          string  `json:"control"`
	KubeletControl   string  `json:"kubelet_control"`
	AuditLog         string  `json:"audit_log"`
	Logs             string  `json:"logs"`
	Seconds          float64 `json:"seconds"`
}

// outside starts the inner process, reports when the cluster is ready, and waits for its end.
func outside(chosen options) error {
	began := time.Now()
	if err := claim(chosen.state); err != nil {
		return err
	}
	if !chosen.keep {
		defer os.RemoveAll(chosen.state)
	}
	// A socket belongs to the network namespace in which it was created. This one is reachable from
	// outside, although the inner process accepts its connections.
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(chosen.port)))
	if err != nil {
		return fmt.Errorf("cannot listen on the relay's port %d: %w", chosen.port, err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()

	ready, writeReady, err := os.Pipe()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), insideVariable+"="+strconv.Itoa(port))
	child.Stderr = os.Stderr
	child.ExtraFiles = []*os.File{socket, writeReady}
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
		// Ctrl-C signals the whole foreground process group. In a new session, the inner process is
		// only stopped by this one.
		Setsid: true,
	}
	// The kernel sends Pdeathsig when the thread that started the child ends.
	runtime.LockOSThread()
	if err := child.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("cannot create user namespaces; check these kernel settings "+
				"(kernel.unprivileged_userns_clone, user.max_user_namespaces, "+
				"kernel.apparmor_restrict_unprivileged_userns): %w", err)
		}
		return err
	}
	socket.Close()
	writeReady.Close()

	reported := make(chan bool, 1)
	go func() {
		_, err := bufio.NewReader(ready).ReadString('\n')
		reported <- err == nil
	}()
	ended := make(chan error, 1)
	// Wait in another goroutine, because this one waits for signals too.
	go func() { ended <- child.Wait() }()
	if chosen.untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			signals <- syscall.SIGTERM
		}()
	}
	for {
		select {
		case ok := <-reported:
			if ok {
				announce(chosen, child.Process.Pid, time.Since(began))
			}
		case <-signals:
			_ = child.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(stopLimit):
				_ = child.Process.Kill()
				<-ended
			}
			return nil
		case err := <-ended:
			return fmt.Errorf("the cluster ended unexpectedly (%v); start it with -keep and read %s", err, filepath.Join(chosen.state, "logs"))
		}
	}
}

// claim creates and locks the state directory, and removes those of killed clusters beside it.
func claim(state string) error {
	abandoned, err := filepath.Glob(filepath.Join(filepath.Dir(state), "state-*"))
	if err != nil {
		return err
	}
	for _, directory := range abandoned {
		if directory == state || !lock(directory) {
			continue
		}
		if err := os.RemoveAll(directory); err != nil {
			return fmt.Errorf("cannot remove the state directory of a killed cluster: %w", err)
		}
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	if !lock(state) {
		return fmt.Errorf("%s is in use by another cluster", state)
	}
	return nil
}

// lock locks a state directory until this process ends. It returns whether that succeeded.
func lock(directory string) bool {
	file, err := os.OpenFile(filepath.Join(directory, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	// The descriptor stays open, because closing it would release the lock.
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// announce writes ready.json and prints how to use the cluster.
func announce(chosen options, pid int, took time.Duration) {
	paths := layout(chosen.state)
	facts := readiness{
		State:            chosen.state,
		Kubeconfig:       paths.outsideKubeconfig,
		KubeconfigInside: paths.insideKubeconfig,
		Pid:              pid,
		Control:          paths.control,
		KubeletControl:   paths.kubeletControl,
		AuditLog:         paths.auditLog,
		Logs:             paths.logs,
		Seconds:          took.Seconds(),
	}
	text, err := json.Marshal(facts)
	if err == nil {
		// For processes that use this cluster but did not start it.
		err = os.WriteFile(paths.ready, append(text, '\n'), 0o600)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot write %s: %v\n", paths.ready, err)
	}
	if chosen.json {
		fmt.Printf("%s\n", text)
		return
	}
	enter := []string{"nsenter", "--preserve-credentials", "-U", "-n", "-m", "-p", "-i", "-u", "-t", strconv.Itoa(pid)}
	fmt.Printf(`The cluster is ready after %.1f s.

  outside   export KUBECONFIG=%s
  inside    %s env KUBECONFIG=%s bash
            (*.svc names and pod IPs work only inside)
  tests     export DAGSTER_RAY_TEST_CLUSTER=%s
  logs      %s

Ctrl-C stops it.
`, facts.Seconds, facts.Kubeconfig, strings.Join(enter, " "), facts.KubeconfigInside, paths.ready, facts.Logs)
}
