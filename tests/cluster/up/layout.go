package main

import "path/filepath"

// Addresses and names of the cluster's network. Each cluster has its own network namespace, so all
// clusters use the same ones.
const (
	bridge            = "cluster"
	nodeName          = "node"
	nodeIP            = "10.42.0.1"
	podCIDR           = "10.42.0.0/16"
	serviceCIDR       = "10.43.0.0/16"
	kubernetesIP      = "10.43.0.1"
	apiServerPort     = "443"
	etcdURL           = "http://127.0.0.1:2379"
	clusterDomain     = "cluster.local"
	operatorProbe     = "10.42.0.1:8082"
	operatorNamespace = "kuberay"
	serviceIssuer     = "https://kubernetes.default.svc." + clusterDomain
	operatorUser      = "kuberay-operator"
)

// statePaths names the files of a state directory.
type statePaths struct {
	logs, pki, etcd, pods              string
	outsideKubeconfig, ready           string
	insideKubeconfig                   string
	kubeletKubeconfig                  string
	controllerManagerKubeconfig        string
	operatorKubeconfig                 string
	tokens, auditPolicy, auditLog      string
	control, kubeletControl            string
	resolvConf, hosts                  string
	authority, serverCert, serverKey   string
	kubeletCert, kubeletKey            string
	kubeletClientCert, kubeletClientID string
	serviceAccountKey                  string
}

func layout(state string) statePaths {
	at := func(parts ...string) string { return filepath.Join(append([]string{state}, parts...)...) }
	return statePaths{
		logs:                        at("logs"),
		pki:                         at("pki"),
		etcd:                        at("etcd"),
		pods:                        at("pods"),
		ready:                       at("ready.json"),
		outsideKubeconfig:           at("kubeconfig"),
		insideKubeconfig:            at("kubeconfig-inside"),
		kubeletKubeconfig:           at("pki", "kubelet.kubeconfig"),
		controllerManagerKubeconfig: at("pki", "controller-manager.kubeconfig"),
		operatorKubeconfig:          at("pki", "operator.kubeconfig"),
		tokens:                      at("pki", "tokens.csv"),
		auditPolicy:                 at("pki", "audit-policy.yaml"),
		auditLog:                    at("logs", "audit.log"),
		control:                     at("control.sock"),
		kubeletControl:              at("kubelet.sock"),
		resolvConf:                  at("resolv.conf"),
		hosts:                       at("hosts"),
		authority:                   at("pki", "ca.crt"),
		serverCert:                  at("pki", "apiserver.crt"),
		serverKey:                   at("pki", "apiserver.key"),
		kubeletCert:                 at("pki", "kubelet.crt"),
		kubeletKey:                  at("pki", "kubelet.key"),
		kubeletClientCert:           at("pki", "apiserver-kubelet.crt"),
		kubeletClientID:             at("pki", "apiserver-kubelet.key"),
		serviceAccountKey:           at("pki", "service-accounts.key"),
	}
}
