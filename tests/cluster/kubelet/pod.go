package main

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is a pod on this node, from its binding until its object is removed from the API.
type pod struct {
	k         *kubelet
	uid       types.UID
	directory string
	network   *podNetwork
	initial   []*container
	main      []*container
	// changed requests a status report. deleted is closed when the pod has to end, ended when it has
	// ended.
	changed chan struct{}
	deleted chan struct{}
	ended   chan struct{}

	mu          sync.Mutex
	object      *core.Pod
	tokens      map[string]heldToken
	conditions  map[core.PodConditionType]core.PodCondition
	began       meta.Time
	initialized bool
	failed      bool
	overdue     bool
	gone        bool
}

type heldToken struct {
	text  string
	renew time.Time
}

func newPod(k *kubelet, object *core.Pod) *pod {
	made := &pod{
		k: k, uid: object.UID, object: object,
		directory:  filepath.Join(k.state, string(object.UID)),
		changed:    make(chan struct{}, 1),
		deleted:    make(chan struct{}),
		ended:      make(chan struct{}),
		tokens:     map[string]heldToken{},
		conditions: map[core.PodConditionType]core.PodCondition{},
		began:      now(),
	}
	for index := range object.Spec.InitContainers {
		made.initial = append(made.initial, newContainer(made, &object.Spec.InitContainers[index], true))
	}
	for index := range object.Spec.Containers {
		made.main = append(made.main, newContainer(made, &object.Spec.Containers[index], false))
	}
	if len(made.initial) > 0 {
		for _, one := range made.main {
			one.state.Waiting.Reason = "PodInitializing"
		}
	}
	return made
}

// update handles a change of the object in the API.
func (p *pod) update(object *core.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.object = object
	if object.DeletionTimestamp != nil {
		p.delete()
	}
}

// handleRemoval handles the removal of the object from the API.
func (p *pod) handleRemoval() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.delete()
}

func (p *pod) delete() {
	select {
	case <-p.deleted:
	default:
		close(p.deleted)
	}
}

func (p *pod) current() *core.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.object
}

func (p *pod) title() string {
	object := p.current()
	return object.Name + "_" + object.Namespace + "(" + string(p.uid) + ")"
}

func (p *pod) hostname() string {
	object := p.current()
	if object.Spec.Hostname != "" {
		return object.Spec.Hostname
	}
	return object.Name[:min(len(object.Name), 63)]
}

func (p *pod) ip() string {
	if p.network == nil {
		return ""
	}
	return p.network.ip
}

// ending returns whether containers that end are not restarted, because the pod ends.
func (p *pod) ending() bool {
	select {
	case <-p.deleted:
		return true
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overdue
}

// grace returns how long a container may take to end after SIGTERM.
func (p *pod) grace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return 0
	case p.object.DeletionGracePeriodSeconds != nil:
		return time.Duration(*p.object.DeletionGracePeriodSeconds) * time.Second
	case p.object.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*p.object.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return 30 * time.Second
}

// sleep waits, and returns false at once if the pod has to end.
func (p *pod) sleep(pause time.Duration) bool {
	deadline := time.Now().Add(pause)
	for time.Now().Before(deadline) {
		select {
		case <-p.deleted:
			return false
		case <-time.After(min(time.Until(deadline), 200*time.Millisecond)):
			if p.ending() {
				return false
			}
		}
	}
	return true
}

// change modifies the pod's state under its mutex and requests a status report.
func (p *pod) change(alter func()) {
	p.mu.Lock()
	alter()
	p.mu.Unlock()
	p.notify()
}

func (p *pod) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *pod) event(kind, reason, message string) {
	p.k.events.Event(p.current(), kind, reason, message)
}

// run runs the pod until it is deleted and its containers have ended, and then cleans up.
func (p *pod) run() {
	reported := make(chan struct{})
	go func() {
		p.report()
		close(reported)
	}()
	done := make(chan struct{})
	go func() {
		p.runContainers()
		close(done)
	}()
	go p.enforceDeadline()
	select {
	case <-done:
		<-p.deleted
	case <-p.deleted:
		p.stopContainers()
		<-done
	}
	close(p.ended)
	p.notify()
	<-reported
	p.remove()
	p.releaseVolumes()
	if p.network != nil {
		p.network.close()
	}
	_ = os.RemoveAll(p.directory)
}

// runContainers starts the pod's containers, and returns when all of them are done.
func (p *pod) runContainers() {
	p.notify()
	for !p.prepare() {
		if !p.sleep(configPause) {
			return
		}
	}
	go p.refreshVolumes()
	p.notify()
	for _, one := range p.initial {
		if !one.run() {
			p.change(func() { p.failed = !p.deletedNow() })
			return
		}
		if p.ending() {
			return
		}
	}
	p.change(func() {
		p.initialized = true
		for _, one := range p.main {
			if one.state.Waiting != nil {
				one.state.Waiting.Reason = "ContainerCreating"
			}
		}
	})
	var containers sync.WaitGroup
	for _, one := range p.main {
		containers.Go(func() { one.run() })
	}
	containers.Wait()
}

func (p *pod) deletedNow() bool {
	select {
	case <-p.deleted:
		return true
	default:
		return false
	}
}

// prepare creates the network and the volumes of the pod, and returns whether that succeeded. It is
// retried, because a pod waits for its ConfigMaps and Secrets.
func (p *pod) prepare() bool {
	if err := os.MkdirAll(p.directory, 0o755); err != nil {
		p.event(core.EventTypeWarning, "FailedCreatePodSandBox", err.Error())
		return false
	}
	if p.network == nil {
		network, err := p.k.network.open()
		if err != nil {
			p.event(core.EventTypeWarning, "FailedCreatePodSandBox", err.Error())
			return false
		}
		p.change(func() { p.network = network })
	}
	if err := p.writeEtc(); err != nil {
		p.event(core.EventTypeWarning, "FailedCreatePodSandBox", err.Error())
		return false
	}
	if err := p.prepareVolumes(); err != nil {
		p.event(core.EventTypeWarning, "FailedMount", err.Error())
		return false
	}
	return true
}

func (p *pod) stopContainers() {
	var all sync.WaitGroup
	for _, one := range append(append([]*container{}, p.initial...), p.main...) {
		all.Go(one.stop)
	}
	all.Wait()
}

// enforceDeadline ends the pod after its activeDeadlineSeconds.
func (p *pod) enforceDeadline() {
	seconds := p.current().Spec.ActiveDeadlineSeconds
	if seconds == nil {
		return
	}
	select {
	case <-p.ended:
	case <-time.After(time.Duration(*seconds) * time.Second):
		p.change(func() { p.overdue = true })
		p.event(core.EventTypeNormal, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
		p.stopContainers()
	}
}

// find returns the container with a name, or the first one if the name is empty.
func (p *pod) find(name string) *container {
	if name == "" && len(p.main) > 0 {
		return p.main[0]
	}
	for _, one := range append(append([]*container{}, p.main...), p.initial...) {
		if one.spec.Name == name {
			return one
		}
	}
	return nil
}
