package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Time between two passes if no event starts one earlier.
const schedulerPause = time.Second

// scheduler binds pods to the node, or reports in their status why they do not fit.
type scheduler struct {
	k      *kubelet
	wake   chan struct{}
	bound  map[types.UID]*core.Pod
	denied map[types.UID]string
}

func newScheduler(k *kubelet) *scheduler {
	return &scheduler{k: k, wake: make(chan struct{}, 1), bound: map[types.UID]*core.Pod{}, denied: map[types.UID]string{}}
}

func (s *scheduler) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *scheduler) run(ctx context.Context) {
	for {
		s.pass()
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-time.After(schedulerPause):
		}
	}
}

// pass tries to bind each unbound pod, oldest first.
func (s *scheduler) pass() {
	all, err := s.k.informers.Core().V1().Pods().Lister().List(labels.Everything())
	if err != nil {
		return
	}
	sort.Slice(all, func(a, b int) bool { return all[a].CreationTimestamp.Before(&all[b].CreationTimestamp) })
	used := core.ResourceList{}
	alive := map[types.UID]bool{}
	for _, one := range all {
		alive[one.UID] = true
		// The watch may not have delivered the binding of a pod in s.bound yet.
		if one.Spec.NodeName != "" {
			delete(s.bound, one.UID)
		}
		if (one.Spec.NodeName != "" || s.bound[one.UID] != nil) && !finished(one) {
			add(used, requests(one))
		}
	}
	for uid := range s.bound {
		if !alive[uid] {
			delete(s.bound, uid)
		}
	}
	for uid := range s.denied {
		if !alive[uid] {
			delete(s.denied, uid)
		}
	}
	for _, one := range all {
		if one.Spec.NodeName != "" || s.bound[one.UID] != nil || one.DeletionTimestamp != nil || finished(one) ||
			len(one.Spec.SchedulingGates) > 0 || one.Spec.SchedulerName != core.DefaultSchedulerName {
			continue
		}
		if reason := s.refusal(one, used); reason != "" {
			s.deny(one, reason)
			continue
		}
		if err := s.bind(one); err != nil {
			if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				fmt.Fprintf(os.Stderr, "bind %s/%s: %v\n", one.Namespace, one.Name, err)
			}
			continue
		}
		s.bound[one.UID] = one
		delete(s.denied, one.UID)
		add(used, requests(one))
	}
}

func (s *scheduler) bind(one *core.Pod) error {
	ctx, cancel := limited()
	defer cancel()
	err := s.k.client.CoreV1().Pods(one.Namespace).Bind(ctx, &core.Binding{
		ObjectMeta: meta.ObjectMeta{Name: one.Name, UID: one.UID},
		Target:     core.ObjectReference{Kind: "Node", Name: s.k.node},
	}, meta.CreateOptions{})
	if err == nil {
		s.k.events.Eventf(one, core.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", one.Namespace, one.Name, s.k.node)
	}
	return err
}

// refusal returns why a pod does not fit on the node, with the messages of kube-scheduler. It is empty
// if the pod fits.
func (s *scheduler) refusal(one *core.Pod, used core.ResourceList) string {
	node := core.NodeStatus{}
	s.k.describeNode(&node)
	names := map[string]string{core.LabelHostname: s.k.node, core.LabelOSStable: "linux"}
	for key, value := range one.Spec.NodeSelector {
		if names[key] != value {
			return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
		}
	}
	var short []string
	for name, amount := range requests(one) {
		left := node.Allocatable[name]
		left.Sub(used[name])
		if amount.Cmp(left) > 0 {
			short = append(short, "1 Insufficient "+string(name))
		}
	}
	if len(short) == 0 {
		return ""
	}
	sort.Strings(short)
	return "0/1 nodes are available: " + strings.Join(short, ", ") + ". no new claims to deallocate, " +
		"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
}

func (s *scheduler) deny(one *core.Pod, reason string) {
	if s.denied[one.UID] == reason {
		return
	}
	condition := core.PodCondition{
		Type: core.PodScheduled, Status: core.ConditionFalse, Reason: core.PodReasonUnschedulable,
		Message: reason, LastTransitionTime: now(),
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": one.UID},
		"status":   map[string]any{"conditions": []core.PodCondition{condition}},
	})
	if err != nil {
		return
	}
	ctx, cancel := limited()
	defer cancel()
	if _, err := s.k.client.CoreV1().Pods(one.Namespace).Patch(ctx, one.Name, types.StrategicMergePatchType, patch,
		meta.PatchOptions{}, "status"); err != nil {
		return
	}
	s.denied[one.UID] = reason
	s.k.events.Event(one, core.EventTypeWarning, "FailedScheduling", reason)
}

// requests returns the resource requests of a pod: the sum over its containers, or the largest request
// of an init container if that is larger.
func requests(one *core.Pod) core.ResourceList {
	total := core.ResourceList{core.ResourcePods: resource.MustParse("1")}
	for index := range one.Spec.Containers {
		add(total, one.Spec.Containers[index].Resources.Requests)
	}
	for index := range one.Spec.InitContainers {
		for name, amount := range one.Spec.InitContainers[index].Resources.Requests {
			if held, found := total[name]; !found || amount.Cmp(held) > 0 {
				total[name] = amount.DeepCopy()
			}
		}
	}
	return total
}

func add(total, more core.ResourceList) {
	for name, amount := range more {
		sum := total[name]
		sum.Add(amount)
		total[name] = sum
	}
}
