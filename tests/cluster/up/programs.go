package main

// describe returns the programs of the cluster with their command lines, by name.
func describe(chosen options, at statePaths) map[string]*program {
	programs := []*program{
		newProgram(at, "etcd", chosen.programs["etcd"],
			"--name=cluster",
			"--data-dir="+at.etcd,
			"--listen-client-urls="+etcdURL,
			"--advertise-client-urls="+etcdURL,
			"--listen-peer-urls=http://127.0.0.1:2380",
			// The data has to survive a kill of etcd, but not a crash of the machine.
			"--unsafe-no-fsync",
			"--log-level=warn",
		),
		newProgram(at, "kube-apiserver", chosen.programs["kube-apiserver"],
			"--etcd-servers="+etcdURL,
			"--secure-port="+apiServerPort,
			"--advertise-address="+nodeIP,
			"--tls-cert-file="+at.serverCert,
			"--tls-private-key-file="+at.serverKey,
			"--authorization-mode=Node,RBAC",
			"--token-auth-file="+at.tokens,
			"--service-account-issuer="+serviceIssuer,
			"--service-account-signing-key-file="+at.serviceAccountKey,
			"--service-account-key-file="+at.serviceAccountKey,
			"--service-cluster-ip-range="+serviceCIDR,
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-certificate-authority="+at.authority,
			"--kubelet-client-certificate="+at.kubeletClientCert,
			"--kubelet-client-key="+at.kubeletClientID,
			"--allow-privileged=true",
			"--enable-priority-and-fairness=false",
			"--profiling=false",
			"--audit-policy-file="+at.auditPolicy,
			"--audit-log-path="+at.auditLog,
			// Connections must not delay the end of the API server.
			"--shutdown-delay-duration=0",
		),
		newProgram(at, "kube-controller-manager", chosen.programs["kube-controller-manager"],
			"--kubeconfig="+at.controllerManagerKubeconfig,
			"--leader-elect=false",
			"--root-ca-file="+at.authority,
			"--service-account-private-key-file="+at.serviceAccountKey,
			"--profiling=false",
			"--controllers="+"serviceaccount-controller,serviceaccount-token-controller,"+
				"root-ca-certificate-publisher-controller,namespace-controller,job-controller,"+
				"garbage-collector-controller,endpointslice-controller,endpoints-controller,"+
				"pod-garbage-collector-controller,ttl-after-finished-controller,node-lifecycle-controller",
		),
		newProgram(at, "kuberay-operator", chosen.programs["kuberay-operator"],
			"-enable-leader-election=false",
			"-health-probe-bind-address="+operatorProbe,
			"-metrics-addr=0",
		),
		newProgram(at, "kubelet", chosen.programs["kubelet"],
			"-kubeconfig="+at.kubeletKubeconfig,
			"-state="+at.pods,
			"-control="+at.kubeletControl,
			"-certificate="+at.kubeletCert,
			"-key="+at.kubeletKey,
			"-client-authority="+at.authority,
			"-node="+nodeName,
			"-node-ip="+nodeIP,
			"-pod-cidr="+podCIDR,
			"-bridge="+bridge,
			"-kubernetes-ip="+kubernetesIP,
			"-domain="+clusterDomain,
			"-python-prefix="+chosen.pythonPrefix,
			"-visible="+chosen.visible,
			"-cpus="+chosen.cpus,
			"-memory="+chosen.memory,
			"-gpus="+chosen.gpus,
		),
	}
	byName := map[string]*program{}
	for _, one := range programs {
		byName[one.name] = one
	}
	// KubeRay's CRDs are so large that half of its start, and of each restart, is garbage collection.
	byName["kube-apiserver"].env = []string{"GOGC=300", "GOMEMLIMIT=2GiB"}
	byName["kuberay-operator"].env = []string{"KUBECONFIG=" + at.operatorKubeconfig, "POD_NAMESPACE=" + operatorNamespace}
	return byName
}
