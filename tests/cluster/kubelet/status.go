package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Time until a failed request to the API server is repeated.
const reportPause = 300 * time.Millisecond

// report writes each change of the pod's status to the API, until the pod's end is reported.
func (p *pod) report() {
	var reported *core.PodStatus
	for {
		last := false
		select {
		case <-p.changed:
		case <-p.ended:
			last = true
		}
		for {
			status := p.status()
			if reported != nil && equality.Semantic.DeepEqual(*reported, status) {
				break
			}
			err := p.patch(status)
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || p.vanished() {
				break
			}
			if err == nil {
				reported = &status
				break
			}
			fmt.Fprintf(os.Stderr, "cannot report the status of %s: %v\n", p.title(), err)
			time.Sleep(reportPause)
		}
		if last {
			return
		}
	}
}

func (p *pod) vanished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// patch writes the status with one patch request, which keeps fields that other clients wrote.
func (p *pod) patch(status core.PodStatus) error {
	object := p.current()
	body, err := patchOf(p.uid, status)
	if err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	_, err = p.k.client.CoreV1().Pods(object.Namespace).
		Patch(ctx, object.Name, types.StrategicMergePatchType, body, meta.PatchOptions{}, "status")
	return err
}

// patchOf returns the status as a strategic merge patch. The lists of addresses are replaced, because a
// merge would keep earlier addresses. Conditions are merged field by field, so an outdated reason or
// message is removed with a null.
func patchOf(uid types.UID, status core.PodStatus) ([]byte, error) {
	text, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	conditions, _ := fields["conditions"].([]any)
	for _, one := range conditions {
		condition := one.(map[string]any)
		for _, name := range []string{"reason", "message"} {
			if _, found := condition[name]; !found {
				condition[name] = nil
			}
		}
	}
	for _, name := range []string{"podIPs", "hostIPs"} {
		addresses, _ := fields[name].([]any)
		fields[name] = append([]any{map[string]any{"$patch": "replace"}}, addresses...)
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": fields})
}

// remove removes the object from the API. Only then does its owner see the pod as deleted.
func (p *pod) remove() {
	object := p.current()
	none := int64(0)
	for !p.vanished() {
		ctx, cancel := limited()
		err := p.k.client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, meta.DeleteOptions{
			GracePeriodSeconds: &none, Preconditions: &meta.Preconditions{UID: &p.uid},
		})
		cancel()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		fmt.Fprintf(os.Stderr, "cannot remove %s: %v\n", p.title(), err)
		time.Sleep(reportPause)
	}
}

// status returns the current status of the pod.
func (p *pod) status() core.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := core.PodStatus{
		HostIP: p.k.nodeIP, HostIPs: []core.HostIP{{IP: p.k.nodeIP}},
		StartTime: &p.began, QOSClass: p.object.Status.QOSClass,
	}
	if p.network != nil {
		status.PodIP = p.network.ip
		status.PodIPs = []core.PodIP{{IP: p.network.ip}}
	}
	for _, one := range p.initial {
		status.InitContainerStatuses = append(status.InitContainerStatuses, one.status())
	}
	for _, one := range p.main {
		status.ContainerStatuses = append(status.ContainerStatuses, one.status())
	}
	status.Phase = p.phase()
	if p.overdue {
		status.Reason = "DeadlineExceeded"
		status.Message = "Pod was active on the node longer than the specified deadline"
	}
	p.conditionsOf(&status)
	return status
}

// phase returns the phase that follows from the containers. A pod that always restarts its containers
// never fails.
func (p *pod) phase() core.PodPhase {
	if p.failed || p.overdue {
		return core.PodFailed
	}
	if !p.initialized {
		return core.PodPending
	}
	policy := p.object.Spec.RestartPolicy
	running, waiting, succeeded, failed := 0, 0, 0, 0
	for _, one := range p.main {
		ended := one.state.Terminated
		switch {
		case one.state.Running != nil:
			running++
		case ended == nil && one.last.Terminated == nil:
			waiting++
		case ended == nil || policy == core.RestartPolicyAlways ||
			policy == core.RestartPolicyOnFailure && ended.ExitCode != 0:
			// The container ran and will be restarted.
			running++
		case ended.ExitCode == 0:
			succeeded++
		default:
			failed++
		}
	}
	switch {
	case waiting > 0:
		return core.PodPending
	case running > 0:
		return core.PodRunning
	case failed > 0:
		return core.PodFailed
	case succeeded > 0:
		return core.PodSucceeded
	}
	return core.PodPending
}

func (p *pod) conditionsOf(status *core.PodStatus) {
	var unready, incomplete []string
	for _, one := range p.main {
		if !one.ready {
			unready = append(unready, one.spec.Name)
		}
	}
	for _, one := range p.initial {
		if one.state.Terminated == nil || one.state.Terminated.ExitCode != 0 {
			incomplete = append(incomplete, one.spec.Name)
		}
	}
	readiness := core.PodCondition{Status: core.ConditionTrue}
	switch {
	case status.Phase == core.PodSucceeded:
		readiness = core.PodCondition{Status: core.ConditionFalse, Reason: "PodCompleted"}
	case status.Phase == core.PodFailed:
		readiness = core.PodCondition{Status: core.ConditionFalse, Reason: "PodFailed"}
	case len(unready) > 0:
		readiness = core.PodCondition{
			Status: core.ConditionFalse, Reason: "ContainersNotReady",
			Message: fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " ")),
		}
	}
	initialized := core.PodCondition{Status: core.ConditionTrue}
	if len(incomplete) > 0 && !p.initialized {
		initialized = core.PodCondition{
			Status: core.ConditionFalse, Reason: "ContainersNotInitialized",
			Message: fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(incomplete, " ")),
		}
	}
	sandbox := core.PodCondition{Status: core.ConditionFalse}
	if p.network != nil {
		sandbox.Status = core.ConditionTrue
	}
	for _, current := range []struct {
		kind  core.PodConditionType
		value core.PodCondition
	}{
		{core.PodReadyToStartContainers, sandbox},
		{core.PodInitialized, initialized},
		{core.PodReady, readiness},
		{core.ContainersReady, readiness},
		{core.PodScheduled, core.PodCondition{Status: core.ConditionTrue}},
	} {
		condition := current.value
		condition.Type = current.kind
		condition.LastTransitionTime = now()
		if before, known := p.conditions[current.kind]; known && before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
		p.conditions[current.kind] = condition
		status.Conditions = append(status.Conditions, condition)
	}
}

func (c *container) status() core.ContainerStatus {
	started := c.started
	ready := c.ready
	if c.initial {
		ready = c.state.Terminated != nil && c.state.Terminated.ExitCode == 0
	}
	status := core.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, State: c.state, LastTerminationState: c.last,
		Ready: ready, Started: &started, RestartCount: c.restarts, ContainerID: c.id,
	}
	if c.id != "" {
		status.ImageID = c.spec.Image
	}
	return status
}
