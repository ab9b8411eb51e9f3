// Command kubelet is a Kubernetes node whose containers are plain processes.
//
// It does what a kubelet does, and what a scheduler, a network plugin and cluster DNS do on a
// cluster of one node. There is no container runtime: whatever its image, a container sees the
// machine's own files, read-only, with one Python environment first on its PATH. It has its own
// process table, hostname, /tmp, /etc and volumes, and its pod's own network and address.
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

// config is what the kubelet is told on its command line.
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
	// Entering namespaces is a matter of one thread, and a child is made by the thread that entered.
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
	flag.StringVar(&chosen.kubeconfig, "kubeconfig", "", "how the API server is reached")
	flag.StringVar(&chosen.state, "state", "", "directory for volumes, logs and the containers' own files")
	flag.StringVar(&chosen.control, "control", "", "Unix socket through which tests kill containers")
	flag.StringVar(&chosen.certificate, "certificate", "", "certificate shown to the API server")
	flag.StringVar(&chosen.key, "key", "", "its key")
	flag.StringVar(&chosen.clientAuthority, "client-authority", "", "authority of the certificate that the API server shows")
	flag.StringVar(&chosen.node, "node", "node", "name of the node")
	flag.StringVar(&chosen.nodeIP, "node-ip", "", "address of the node, on the bridge")
	flag.StringVar(&chosen.podCIDR, "pod-cidr", "", "network of the pods, the node's address in it")
	flag.StringVar(&chosen.bridge, "bridge", "", "the bridge that pods are connected to")
	flag.StringVar(&chosen.kubernetesIP, "kubernetes-ip", "", "address of the service kubernetes")
	flag.StringVar(&chosen.domain, "domain", "cluster.local", "domain of the cluster's names")
	flag.StringVar(&chosen.pythonPrefix, "python-prefix", "", "the Python environment that stands for every image")
	flag.StringVar(&chosen.visible, "visible", "", "a directory that every container sees, wherever it lies")
	flag.StringVar(&chosen.cpus, "cpus", "16", "CPUs that pods may ask for together")
	flag.StringVar(&chosen.memory, "memory", "64Gi", "memory that pods may ask for together")
	flag.StringVar(&chosen.gpus, "gpus", "0", "nvidia.com/gpu that pods may ask for together")
	// Kubernetes waits 10 s, 20 s, … 5 min. A test that is told after seconds is as true.
	flag.DurationVar(&chosen.backOff, "back-off", time.Second, "wait before the second restart of a container; it doubles")
	flag.DurationVar(&chosen.longestBackOff, "longest-back-off", 30*time.Second, "its limit")
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
	settings, err := clientcmd.BuildConfigFromFlags("", chosen.kubeconfig)
	if err != nil {
		return err
	}
	settings.UserAgent = "kubelet"
	// One node is no danger to the API server, and a limit here would look like a slow cluster.
	settings.QPS = -1
	node, err := newKubelet(chosen, settings)
	if err != nil {
		return err
	}
	return node.run(ctx)
}
