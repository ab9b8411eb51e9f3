package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// kubelet is the state that the parts of the kubelet share.
type kubelet struct {
	config
	client    kubernetes.Interface
	events    record.EventRecorder
	informers informers.SharedInformerFactory
	network   *podNetworks
	scheduler *scheduler

	mu   sync.Mutex
	pods map[types.UID]*pod
}

func newKubelet(chosen config, restConfig *rest.Config) (*kubelet, error) {
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, err
	}
	networks, err := newPodNetworks(chosen.bridge, chosen.podCIDR, chosen.nodeIP)
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events("")})
	made := &kubelet{
		config:    chosen,
		client:    client,
		events:    broadcaster.NewRecorder(scheme.Scheme, core.EventSource{Component: "kubelet", Host: chosen.node}),
		informers: informers.NewSharedInformerFactory(client, 0),
		network:   networks,
		pods:      map[types.UID]*pod{},
	}
	made.scheduler = newScheduler(made)
	return made, nil
}

// run registers the node and serves it until the context ends.
func (k *kubelet) run(ctx context.Context) error {
	if err := os.MkdirAll(k.state, 0o700); err != nil {
		return err
	}
	if err := k.serveAPI(); err != nil {
		return fmt.Errorf("cannot serve the kubelet's API: %w", err)
	}
	if err := k.serveControl(); err != nil {
		return fmt.Errorf("cannot serve the control socket: %w", err)
	}
	if err := k.serveDNS(); err != nil {
		return fmt.Errorf("cannot serve DNS: %w", err)
	}
	if _, err := k.informers.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { k.observe(object.(*core.Pod)) },
		UpdateFunc: func(_, object any) { k.observe(object.(*core.Pod)) },
		DeleteFunc: func(object any) {
			if last, missed := object.(cache.DeletedFinalStateUnknown); missed {
				object = last.Obj
			}
			if gone, ok := object.(*core.Pod); ok {
				k.forget(gone)
			}
		},
	}); err != nil {
		return err
	}
	k.informers.Start(ctx.Done())
	k.informers.WaitForCacheSync(ctx.Done())
	go k.scheduler.run(ctx)
	return k.keepNode(ctx)
}

// observe handles each created or changed pod. The informer calls it for all pods again after a lost
// connection to the API server.
func (k *kubelet) observe(object *core.Pod) {
	if object.Spec.NodeName == "" {
		k.scheduler.notify()
		return
	}
	if object.Spec.NodeName != k.node {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, found := k.pods[object.UID]
	if !found {
		if finished(object) && object.DeletionTimestamp == nil {
			return
		}
		known = newPod(k, object)
		k.pods[object.UID] = known
		go func() {
			known.run()
			k.mu.Lock()
			delete(k.pods, object.UID)
			k.mu.Unlock()
			k.scheduler.notify()
		}()
	}
	known.update(object)
}

// forget handles each pod that was removed from the API, by force or by this kubelet.
func (k *kubelet) forget(object *core.Pod) {
	k.scheduler.notify()
	k.mu.Lock()
	known := k.pods[object.UID]
	k.mu.Unlock()
	if known != nil {
		known.handleRemoval()
	}
}

// find returns the newest pod with a name, because an earlier one may still be ending.
func (k *kubelet) find(namespace, name string) *pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *pod
	for _, one := range k.pods {
		object := one.current()
		if object.Namespace != namespace || object.Name != name {
			continue
		}
		if found == nil || object.CreationTimestamp.After(found.current().CreationTimestamp.Time) {
			found = one
		}
	}
	return found
}

func finished(object *core.Pod) bool {
	return object.Status.Phase == core.PodSucceeded || object.Status.Phase == core.PodFailed
}

// limited returns a context with the timeout of one request to the API server.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

func now() meta.Time { return meta.NewTime(time.Now().UTC().Truncate(time.Second)) }
