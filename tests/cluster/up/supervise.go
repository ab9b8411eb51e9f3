package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 3 * time.Second
	// A program that ran for this long restarts with the first pause again.
	settled = 20 * time.Second
)

// program is a program of the cluster. It is restarted when it ends, like a systemd unit.
type program struct {
	name string
	argv []string
	env  []string
	log  string

	mu       sync.Mutex
	process  *os.Process
	enabled  bool
	restarts int
	wake     chan struct{}
}

// programState is the state of a program in the responses of the control socket.
type programState struct {
	Pid      int  `json:"pid"`
	Running  bool `json:"running"`
	Restarts int  `json:"restarts"`
}

func newProgram(at statePaths, name, path string, arguments ...string) *program {
	return &program{
		name: name,
		argv: append([]string{path}, arguments...),
		log:  filepath.Join(at.logs, name+".log"),
		wake: make(chan struct{}, 1),
	}
}

// supervise runs and restarts the program while it is enabled.
func (p *program) supervise() {
	pause := firstPause
	for {
		p.mu.Lock()
		enabled := p.enabled
		p.mu.Unlock()
		if !enabled {
			<-p.wake
			pause = firstPause
			continue
		}
		began := time.Now()
		if err := p.runOnce(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		}
		if time.Since(began) > settled {
			pause = firstPause
		}
		select {
		case <-p.wake:
		case <-time.After(pause):
			pause = min(2*pause, longPause)
		}
	}
}

func (p *program) runOnce() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.argv[0], p.argv[1:]...)
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, p.env...)
	command.Dir = "/"
	command.Stdout, command.Stderr = log, log
	p.mu.Lock()
	if !p.enabled {
		p.mu.Unlock()
		return nil
	}
	err = command.Start()
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.process = command.Process
	p.mu.Unlock()
	err = command.Wait()
	p.mu.Lock()
	p.process = nil
	p.restarts++
	stopped := !p.enabled
	p.mu.Unlock()
	var status *exec.ExitError
	if stopped || errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	return fmt.Errorf("ended unexpectedly (%v), see %s", err, p.log)
}

func (p *program) start() {
	p.mu.Lock()
	p.enabled = true
	p.mu.Unlock()
	p.notify()
}

// signal sends a signal to the program if it runs. With stop, the program is not started again.
func (p *program) signal(sign syscall.Signal, stop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enabled = !stop
	if p.process != nil {
		_ = p.process.Signal(sign)
	}
}

func (p *program) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *program) state() programState {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := programState{Running: p.process != nil, Restarts: p.restarts}
	if p.process != nil {
		state.Pid = p.process.Pid
	}
	return state
}
