package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	kubeletPort = 10250
	// Kubernetes considers a node lost after 40 s without a heartbeat.
	heartbeat     = 5 * time.Second
	leaseSeconds  = int32(40)
	leaseSpace    = "kube-node-lease"
	podsOnTheNode = "110"
	gpuResource   = core.ResourceName("nvidia.com/gpu")
)

// keepNode registers the node and sends heartbeats until the context ends.
func (k *kubelet) keepNode(ctx context.Context) error {
	for {
		pause := heartbeat
		if err := k.beat(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "heartbeat: %v\n", err)
			// The API server is down. Try again soon, so that it gets a heartbeat once it is up.
			pause = 500 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (k *kubelet) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	nodes := k.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, k.node, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = nodes.Create(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{
			Name: k.node,
			Labels: map[string]string{
				core.LabelHostname:   k.node,
				core.LabelOSStable:   runtime.GOOS,
				core.LabelArchStable: runtime.GOARCH,
			},
		}}, meta.CreateOptions{})
	}
	if err != nil {
		return err
	}
	changed := node.DeepCopy()
	k.describeNode(&changed.Status)
	if _, err := nodes.UpdateStatus(ctx, changed, meta.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return err
	}
	return k.renewLease(ctx, node)
}

func (k *kubelet) describeNode(status *core.NodeStatus) {
	status.Capacity = core.ResourceList{
		core.ResourceCPU:    resource.MustParse(k.cpus),
		core.ResourceMemory: resource.MustParse(k.memory),
		core.ResourcePods:   resource.MustParse(podsOnTheNode),
		gpuResource:         resource.MustParse(k.gpus),
	}
	status.Allocatable = status.Capacity
	status.Addresses = []core.NodeAddress{
		{Type: core.NodeInternalIP, Address: k.nodeIP},
		{Type: core.NodeHostName, Address: k.node},
	}
	status.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	status.NodeInfo.OperatingSystem = runtime.GOOS
	status.NodeInfo.Architecture = runtime.GOARCH
	status.NodeInfo.KubeletVersion = "v1.36.3"
	status.NodeInfo.ContainerRuntimeVersion = "process://1"
	for _, condition := range []struct {
		kind   core.NodeConditionType
		status core.ConditionStatus
		reason string
	}{
		{core.NodeMemoryPressure, core.ConditionFalse, "KubeletHasSufficientMemory"},
		{core.NodeDiskPressure, core.ConditionFalse, "KubeletHasNoDiskPressure"},
		{core.NodePIDPressure, core.ConditionFalse, "KubeletHasSufficientPID"},
		{core.NodeReady, core.ConditionTrue, "KubeletReady"},
	} {
		setNodeCondition(status, core.NodeCondition{
			Type: condition.kind, Status: condition.status, Reason: condition.reason,
			LastHeartbeatTime: now(), LastTransitionTime: now(),
		})
	}
}

func setNodeCondition(status *core.NodeStatus, condition core.NodeCondition) {
	for index, found := range status.Conditions {
		if found.Type == condition.Type {
			if found.Status == condition.Status {
				condition.LastTransitionTime = found.LastTransitionTime
			}
			status.Conditions[index] = condition
			return
		}
	}
	status.Conditions = append(status.Conditions, condition)
}

func (k *kubelet) renewLease(ctx context.Context, node *core.Node) error {
	leases := k.client.CoordinationV1().Leases(leaseSpace)
	moment := meta.NowMicro()
	seconds := leaseSeconds
	lease, err := leases.Get(ctx, k.node, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordination.Lease{
			ObjectMeta: meta.ObjectMeta{
				Name:            k.node,
				OwnerReferences: []meta.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
			},
			Spec: coordination.LeaseSpec{HolderIdentity: &k.node, LeaseDurationSeconds: &seconds, RenewTime: &moment},
		}, meta.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &moment
	_, err = leases.Update(ctx, lease, meta.UpdateOptions{})
	return err
}
