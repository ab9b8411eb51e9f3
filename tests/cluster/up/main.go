// Command up runs a Kubernetes control plane with one node, for as long as it lives itself.
//
// It is two processes of the same program. The outer one stays where it was started: it owns the
// state directory and tells when the cluster is ready. The inner one is process 1 of user, network,
// mount and process namespaces of its own, so that no root is needed, nothing can be reached from
// outside but through the relay, and whatever way the outer one ends, the kernel ends all the rest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// settings is what both processes are told on their command line.
type settings struct {
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
	chosen := settings{programs: map[string]string{}}
	flag.StringVar(&chosen.state, "state", "", "directory for everything the cluster writes; made and removed by this program")
	flag.Func("program", "NAME=PATH of one of "+strings.Join(programNames, ", "), func(text string) error {
		name, path, found := strings.Cut(text, "=")
		if !found {
			return errors.New("it has to be NAME=PATH")
		}
		chosen.programs[name] = path
		return nil
	})
	flag.StringVar(&chosen.manifests, "manifests", "", "the config directory of the KubeRay operator's module: its CRDs and its role")
	flag.StringVar(&chosen.pythonPrefix, "python-prefix", "", "the Python environment that stands for every image")
	flag.StringVar(&chosen.visible, "visible", "", "a directory that every container sees, wherever it lies; the Python environment is in it")
	flag.IntVar(&chosen.port, "port", 0, "port on 127.0.0.1 that leads to the API server; 0 chooses one")
	flag.StringVar(&chosen.cpus, "cpus", "16", "the node's CPUs, as the scheduler counts them")
	flag.StringVar(&chosen.memory, "memory", "64Gi", "the node's memory, as the scheduler counts it")
	flag.StringVar(&chosen.gpus, "gpus", "0", "the node's nvidia.com/gpu, as the scheduler counts them")
	flag.BoolVar(&chosen.json, "json", false, "tell readiness as one line of JSON on standard output")
	flag.BoolVar(&chosen.untilEOF, "until-eof", false, "stop when standard input ends, for a parent that may be killed")
	flag.BoolVar(&chosen.keep, "keep", false, "leave the state directory, with its logs, when the cluster stops")
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

func (chosen *settings) check() error {
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
			return fmt.Errorf("%s has to be an absolute path", directory.flag)
		}
	}
	if _, err := os.Stat(filepath.Join(chosen.pythonPrefix, "bin", "python")); err != nil {
		return fmt.Errorf("-python-prefix has no bin/python: %w", err)
	}
	for _, hidden := range []string{"/run/", "/dev/"} {
		if strings.HasPrefix(chosen.pythonPrefix+"/", hidden) {
			return fmt.Errorf("-python-prefix must not lie under %s: each container has its own", hidden)
		}
	}
	return nil
}
