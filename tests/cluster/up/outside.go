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
	// How long the inner process may take to end by itself before the kernel ends it.
	patience = 10 * time.Second
)

// readiness is what whoever started the cluster has to know to use it.
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

// outside starts the inner process, tells when the cluster is ready, and waits for its end.
func outside(chosen settings) error {
	began := time.Now()
	if err := claim(chosen.state); err != nil {
		return err
	}
	if !chosen.keep {
		defer os.RemoveAll(chosen.state)
	}
	// A socket belongs to the network it was made in: this one is reachable out here, though only
	// the inner process accepts from it.
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(chosen.port)))
	if err != nil {
		return fmt.Errorf("the relay's port: %w", err)
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
		// Ctrl-C reaches the whole foreground group: the order of the end is this process's to choose.
		Setsid: true,
	}
	// The death signal is sent when the thread that started the child ends.
	runtime.LockOSThread()
	if err := child.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("this kernel or its policy makes no user namespaces "+
				"(see kernel.unprivileged_userns_clone, user.max_user_namespaces, "+
				"kernel.apparmor_restrict_unprivileged_userns): %w", err)
		}
		return err
	}
	socket.Close()
	writeReady.Close()

	told := make(chan bool, 1)
	go func() {
		_, err := bufio.NewReader(ready).ReadString('\n')
		told <- err == nil
	}()
	ended := make(chan error, 1)
	// Waiting must not need the locked thread, which waits for all of this.
	go func() { ended <- child.Wait() }()
	if chosen.untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			signals <- syscall.SIGTERM
		}()
	}
	for {
		select {
		case ok := <-told:
			if ok {
				tell(chosen, child.Process.Pid, time.Since(began))
			}
		case <-signals:
			_ = child.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(patience):
				_ = child.Process.Kill()
				<-ended
			}
			return nil
		case err := <-ended:
			return fmt.Errorf("the cluster ended by itself (%v); use -keep to look at %s", err, filepath.Join(chosen.state, "logs"))
		}
	}
}

// claim makes the state directory and removes the ones beside it that a killed cluster left.
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
			return fmt.Errorf("what an earlier cluster left: %w", err)
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

// lock takes a state directory for as long as this process lives.
func lock(directory string) bool {
	file, err := os.OpenFile(filepath.Join(directory, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	// The descriptor stays open on purpose: with it the lock ends.
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func tell(chosen settings, pid int, took time.Duration) {
	places := layout(chosen.state)
	facts := readiness{
		State:            chosen.state,
		Kubeconfig:       places.outsideKubeconfig,
		KubeconfigInside: places.insideKubeconfig,
		Pid:              pid,
		Control:          places.control,
		KubeletControl:   places.kubeletControl,
		AuditLog:         places.auditLog,
		Logs:             places.logs,
		Seconds:          took.Seconds(),
	}
	text, err := json.Marshal(facts)
	if err == nil {
		// Beside the cluster's other files, for those who did not start it.
		err = os.WriteFile(places.ready, append(text, '\n'), 0o600)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", places.ready, err)
	}
	if chosen.json {
		fmt.Printf("%s\n", text)
		return
	}
	enter := []string{"nsenter", "--preserve-credentials", "-U", "-n", "-m", "-p", "-i", "-u", "-t", strconv.Itoa(pid)}
	fmt.Printf(`The cluster is ready, after %.1f s.

  from here     export KUBECONFIG=%s
  from inside   %s env KUBECONFIG=%s bash
                (there *.svc names and pod IPs work)
  tests         export DAGSTER_RAY_TEST_CLUSTER=%s
  logs          %s

Ctrl-C stops it.
`, facts.Seconds, facts.Kubeconfig, strings.Join(enter, " "), facts.KubeconfigInside, places.ready, facts.Logs)
}
