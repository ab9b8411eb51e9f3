// Command up runs a Kubernetes control plane with one node until it is stopped.
//
// It consists of two processes. The outer process owns the state directory and reports when the
// cluster is ready. The inner process is process 1 of new user, network, mount and process
// namespaces. So the cluster needs no root, it can be reached from outside only through the relay,
// and the kernel kills all its processes when the outer process ends.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// options are the command line options of both processes.
type options struct {
	state        string
	programs     map[string]string
	manifests    string
	pythonPrefix string
	visible      string
	port         int
	cpus         string
	memory       string
	gpus         string
	json         bool
	untilEOF     bool
	keep         bool
}

// The programs that make up a cluster. Each is given as -program NAME=PATH.
var programNames = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kuberay-operator", "kubelet"}

func main() {
	chosen := options{programs: map[string]string{}}
	flag.StringVar(&chosen.state, "state", "", "directory for all files of the cluster; created and removed by this program")
	flag.Func("program", "NAME=PATH of one of "+strings.Join(programNames, ", "), func(text string) error {
		name, path, found := strings.Cut(text, "=")
		if !found {
			return fmt.Errorf("%q is not NAME=PATH", text)
		}
		chosen.programs[name] = path
		return nil
	})
	flag.StringVar(&chosen.manifests, "manifests", "", "config directory of the KubeRay operator's module, with its CRDs and its role")
	flag.StringVar(&chosen.pythonPrefix, "python-prefix", "", "Python environment that stands for every image")
	flag.StringVar(&chosen.visible, "visible", "", "directory that is mounted in every container and contains the Python environment")
	flag.IntVar(&chosen.port, "port", 0, "port on 127.0.0.1 for the API server; 0 chooses a free one")
	flag.StringVar(&chosen.cpus, "cpus", "16", "CPUs of the node, as the scheduler counts them")
	flag.StringVar(&chosen.memory, "memory", "64Gi", "memory of the node, as the scheduler counts it")
	flag.StringVar(&chosen.gpus, "gpus", "0", "nvidia.com/gpu of the node, as the scheduler counts them")
	flag.BoolVar(&chosen.json, "json", false, "print one line of JSON to standard output when the cluster is ready")
	flag.BoolVar(&chosen.untilEOF, "until-eof", false, "stop when standard input ends, for a parent process that may be killed")
	flag.BoolVar(&chosen.keep, "keep", false, "keep the state directory with its logs when the cluster stops")
	flag.Parse()

	run := outside
	if os.Getenv(insideVariable) != "" {
		run = inside
	}
	if err := chosen.check(); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(2)
	}
	if err := run(chosen); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func (chosen *options) check() error {
	for _, name := range programNames {
		path := chosen.programs[name]
		if path == "" {
			return fmt.Errorf("-program %s=PATH is missing", name)
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("-program %s: %w", name, err)
		}
	}
	for _, directory := range []struct{ flag, path string }{
		{"-state", filepath.Dir(chosen.state)},
		{"-manifests", chosen.manifests},
		{"-python-prefix", chosen.pythonPrefix},
	} {
		if !filepath.IsAbs(directory.path) {
			return fmt.Errorf("%s must be an absolute path", directory.flag)
		}
	}
	if _, err := os.Stat(filepath.Join(chosen.pythonPrefix, "bin", "python")); err != nil {
		return fmt.Errorf("-python-prefix has no bin/python: %w", err)
	}
	for _, hidden := range []string{"/run/", "/dev/"} {
		if strings.HasPrefix(chosen.pythonPrefix+"/", hidden) {
			return fmt.Errorf("-python-prefix %q is below %s, which each container replaces: use another directory", chosen.pythonPrefix, hidden)
		}
	}
	return nil
}
