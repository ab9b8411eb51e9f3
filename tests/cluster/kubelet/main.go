// Command kubelet is a Kubernetes node whose containers are plain processes.
//
// It is also the scheduler, the network plugin and the DNS server of a cluster with one node. There
// is no container runtime: a container of any image sees the machine's files, read-only, with one
// Python environment first in its PATH. It has its own process table, hostname, /tmp, /etc and
// volumes, and the network and address of its pod.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/clientcmd"
)

// config are the command line options of the kubelet.
type config struct {
	kubeconfig      string
	state           string
	control         string
	certificate     string
	key             string
	clientAuthority string
	node            string
	nodeIP          string
	podCIDR         string
	bridge          string
	kubernetesIP    string
	domain          string
	pythonPrefix    string
	visible         string
	cpus            string
	memory          string
	gpus            string
	backOff         time.Duration
	longestBackOff  time.Duration
}

func init() {
	// A namespace is entered by a single thread, and its child must be started by the same thread.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case becomeContainer:
			os.Exit(runContainer())
		case enterContainer:
			os.Exit(runEnter())
		}
	}
	var chosen config
	flag.StringVar(&chosen.kubeconfig, "kubeconfig", "", "kubeconfig for the API server")
	flag.StringVar(&chosen.state, "state", "", "directory for volumes, logs and files of the containers")
	flag.StringVar(&chosen.control, "control", "", "Unix socket through which tests kill containers")
	flag.StringVar(&chosen.certificate, "certificate", "", "certificate that the kubelet presents to the API server")
	flag.StringVar(&chosen.key, "key", "", "key of the certificate")
	flag.StringVar(&chosen.clientAuthority, "client-authority", "", "authority of the certificate that the API server presents")
	flag.StringVar(&chosen.node, "node", "node", "name of the node")
	flag.StringVar(&chosen.nodeIP, "node-ip", "", "address of the node, on the bridge")
	flag.StringVar(&chosen.podCIDR, "pod-cidr", "", "network of the pods, which contains the node's address")
	flag.StringVar(&chosen.bridge, "bridge", "", "bridge that connects the pods")
	flag.StringVar(&chosen.kubernetesIP, "kubernetes-ip", "", "address of the service kubernetes")
	flag.StringVar(&chosen.domain, "domain", "cluster.local", "DNS domain of the cluster")
	flag.StringVar(&chosen.pythonPrefix, "python-prefix", "", "Python environment that stands for every image")
	flag.StringVar(&chosen.visible, "visible", "", "directory that is mounted in every container")
	flag.StringVar(&chosen.cpus, "cpus", "16", "CPUs of the node: limit of the requests of all pods")
	flag.StringVar(&chosen.memory, "memory", "64Gi", "memory of the node: limit of the requests of all pods")
	flag.StringVar(&chosen.gpus, "gpus", "0", "nvidia.com/gpu of the node: limit of the requests of all pods")
	// Kubernetes begins at 10 s and has a limit of 5 min. Shorter values save time in tests.
	flag.DurationVar(&chosen.backOff, "back-off", time.Second, "wait before the second restart of a container; doubles with each restart")
	flag.DurationVar(&chosen.longestBackOff, "longest-back-off", 30*time.Second, "limit of the wait before a restart")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, chosen); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, chosen config) error {
	for _, quantity := range []string{chosen.cpus, chosen.memory, chosen.gpus} {
		if _, err := resource.ParseQuantity(quantity); err != nil {
			return fmt.Errorf("%q: %w", quantity, err)
		}
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", chosen.kubeconfig)
	if err != nil {
		return err
	}
	restConfig.UserAgent = "kubelet"
	// One node cannot overload the API server, and a rate limit would make the cluster slow.
	restConfig.QPS = -1
	node, err := newKubelet(chosen, restConfig)
	if err != nil {
		return err
	}
	return node.run(ctx)
}
