package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Pulling an image whose name contains this text fails.
	missingImage = "does-not-exist"
	// A container that ran for this long restarts without back-off.
	backOffReset = 2 * time.Minute
	// Time between two attempts to read missing ConfigMaps and Secrets.
	configPause = time.Second
)

// container is a container of a pod, over all its restarts. The pod's mutex guards the second group
// of fields.
type container struct {
	pod       *pod
	spec      *core.Container
	initial   bool
	directory string

	state    core.ContainerState
	last     core.ContainerState
	restarts int32
	started  bool
	ready    bool
	process  *exec.Cmd
	environ  []string
	id       string
	log      *containerLog
	previous *containerLog
	stopping bool
}

func newContainer(p *pod, spec *core.Container, initial bool) *container {
	return &container{
		pod: p, spec: spec, initial: initial,
		directory: filepath.Join(p.directory, "containers", spec.Name),
		state:     core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "ContainerCreating"}},
	}
}

// run runs the container and restarts it according to the pod's restart policy, until it is done or
// the pod ends. It returns whether the container succeeded.
func (c *container) run() bool {
	if !c.pull() {
		return false
	}
	pause := time.Duration(0)
	for {
		began := time.Now()
		code := c.runOnce()
		if c.pod.ending() {
			return code == 0
		}
		policy := c.pod.current().Spec.RestartPolicy
		switch {
		case c.initial && code == 0, policy == core.RestartPolicyNever, policy == core.RestartPolicyOnFailure && code == 0:
			return code == 0
		}
		if time.Since(began) > backOffReset {
			pause = 0
		}
		if pause > 0 {
			text := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", pause, c.spec.Name, c.pod.title())
			c.wait("CrashLoopBackOff", text)
			c.pod.event(core.EventTypeWarning, "BackOff", "Back-off restarting failed container "+c.spec.Name+" in pod "+c.pod.title())
			if !c.pod.sleep(pause) {
				return false
			}
		}
		pause = min(max(2*pause, c.pod.k.backOff), c.pod.k.longestBackOff)
		c.pod.change(func() { c.restarts++ })
	}
}

// pull simulates pulling the image. A missing image is retried until the pod ends, with the events and
// messages of the real kubelet. It returns whether the image is there.
func (c *container) pull() bool {
	image := c.spec.Image
	if !strings.Contains(image, missingImage) {
		c.pod.event(core.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", image))
		return true
	}
	pause := c.pod.k.backOff
	failure := fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", image, image, image)
	for {
		c.pod.event(core.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", image))
		c.wait("ErrImagePull", failure)
		c.pod.event(core.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", image, failure))
		if !c.pod.sleep(c.pod.k.backOff) {
			return false
		}
		c.wait("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, failure))
		c.pod.event(core.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", image))
		if !c.pod.sleep(pause) {
			return false
		}
		pause = min(2*pause, c.pod.k.longestBackOff)
	}
}

// runOnce runs the container's program to its end and returns its exit code.
func (c *container) runOnce() int {
	command, finish, err := c.begin()
	if err != nil {
		if c.pod.ending() {
			return notStarted
		}
		c.finishLog()
		c.end(notStarted, "StartError", err.Error(), now())
		c.pod.event(core.EventTypeWarning, "Failed", "Error: "+err.Error())
		return notStarted
	}
	began := now()
	died := make(chan struct{})
	c.pod.change(func() {
		if c.state.Terminated != nil {
			c.last = c.state
		}
		c.state = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: began}}
		c.process = command
		c.started = c.spec.StartupProbe == nil
		c.ready = c.started && c.spec.ReadinessProbe == nil
		c.stopping = false
	})
	c.pod.event(core.EventTypeNormal, "Started", "Started container "+c.spec.Name)
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil {
		go c.hook(c.spec.Lifecycle.PostStart)
	}
	go c.probe(died)
	if c.pod.ending() {
		// The pod was deleted while this container was starting and could not be stopped yet.
		go c.stop()
	}
	_ = command.Wait()
	close(died)
	finish()
	c.finishLog()
	code := exitCode(command.ProcessState)
	reason := "Error"
	if code == 0 {
		reason = "Completed"
	}
	c.end(code, reason, c.message(), began)
	return code
}

// begin starts the container's program once its ConfigMaps and Secrets exist.
func (c *container) begin() (*exec.Cmd, func(), error) {
	var environ []string
	var values map[string]string
	for {
		var err error
		environ, values, err = c.pod.environment(c.spec)
		if err == nil {
			break
		}
		c.wait("CreateContainerConfigError", err.Error())
		c.pod.event(core.EventTypeWarning, "Failed", "Error: "+err.Error())
		if !c.pod.sleep(configPause) {
			return nil, nil, err
		}
	}
	var argv []string
	for _, word := range append(append([]string{}, c.spec.Command...), c.spec.Args...) {
		argv = append(argv, expand(word, values))
	}
	if len(argv) == 0 {
		return nil, nil, errors.New("no command specified: write it in the container's spec, because images have none here")
	}
	root := filepath.Join(c.directory, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, nil, err
	}
	mounts, err := c.pod.mounts(c, values)
	if err != nil {
		return nil, nil, err
	}
	termination, err := c.terminationFile()
	if err != nil {
		return nil, nil, err
	}
	mounts = append(mounts, bindMount{Source: termination, Target: c.spec.TerminationMessagePath})
	log, err := newContainerLog(filepath.Join(c.directory, strconv.Itoa(int(c.restarts))+".log"))
	if err != nil {
		return nil, nil, err
	}
	directory := c.spec.WorkingDir
	if directory == "" {
		directory = containerHome
	}
	c.pod.change(func() {
		c.previous, c.log = c.log, log
		c.environ = environ
		c.id = fmt.Sprintf("process://%s-%s-%d", c.pod.uid, c.spec.Name, c.restarts)
	})
	c.pod.event(core.EventTypeNormal, "Created", "Created container: "+c.spec.Name)
	return startContainer(c.pod.network, processSpec{
		Root: root, Mounts: mounts, Hostname: c.pod.hostname(), Argv: argv, Env: environ, Dir: directory,
	}, log)
}

func (c *container) terminationFile() (string, error) {
	path := filepath.Join(c.directory, "termination-log")
	return path, os.WriteFile(path, nil, 0o666)
}

// message returns the end of the termination message that the program wrote.
func (c *container) message() string {
	const limit = 4096
	text, err := os.ReadFile(filepath.Join(c.directory, "termination-log"))
	if err != nil || len(text) == 0 {
		return ""
	}
	return string(text[max(0, len(text)-limit):])
}

func (c *container) finishLog() {
	c.pod.mu.Lock()
	log := c.log
	c.pod.mu.Unlock()
	if log != nil {
		log.finish()
	}
}

func (c *container) wait(reason, message string) {
	c.pod.change(func() {
		if c.state.Terminated != nil {
			c.last = c.state
		}
		c.state = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: reason, Message: message}}
		c.ready, c.started = false, false
	})
}

func (c *container) end(code int, reason, message string, began meta.Time) {
	c.pod.change(func() {
		if c.state.Terminated != nil {
			c.last = c.state
		}
		c.state = core.ContainerState{Terminated: &core.ContainerStateTerminated{
			ExitCode: int32(code), Reason: reason, Message: message,
			StartedAt: began, FinishedAt: now(), ContainerID: c.id,
		}}
		c.process = nil
		c.ready, c.started = false, false
	})
}

// running returns the container's first process, or nil if it does not run.
func (c *container) running() *exec.Cmd {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.process
}

// stop runs the preStop hook, sends SIGTERM, and sends SIGKILL after the pod's grace period. Process 1
// of a namespace ignores SIGTERM unless it handles it.
func (c *container) stop() {
	command := c.running()
	if command == nil {
		return
	}
	already := false
	c.pod.change(func() { already, c.stopping = c.stopping, true })
	if already {
		return
	}
	began := time.Now()
	c.pod.event(core.EventTypeNormal, "Killing", "Stopping container "+c.spec.Name)
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PreStop != nil && c.pod.grace() > 0 {
		hook := make(chan struct{})
		go func() {
			c.hook(c.spec.Lifecycle.PreStop)
			close(hook)
		}()
		for waiting := true; waiting && time.Since(began) < c.pod.grace(); {
			select {
			case <-hook:
				waiting = false
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	_ = command.Process.Signal(syscall.SIGTERM)
	// A second deletion may shorten the grace period, so it is read again.
	for c.running() == command && time.Since(began) < c.pod.grace() {
		time.Sleep(20 * time.Millisecond)
	}
	if c.running() == command {
		_ = command.Process.Kill()
	}
}
