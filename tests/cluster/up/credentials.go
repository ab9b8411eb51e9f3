package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// The audit log records the requests of each client. Long requests (watches) are logged at their
// start and at their end, so that tests can count a watch before it ends.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// writeCredentials creates a user for each program and writes kubeconfigs with the users' tokens.
func writeCredentials(at statePaths, relayPort string) error {
	inside := "https://" + kubernetesIP + ":" + apiServerPort
	var tokens strings.Builder
	for _, user := range []struct {
		name   string
		files  []string
		server []string
	}{
		{"admin", []string{at.outsideKubeconfig, at.insideKubeconfig}, []string{"https://127.0.0.1:" + relayPort, inside}},
		{"kubelet", []string{at.kubeletKubeconfig}, []string{inside}},
		{"controller-manager", []string{at.controllerManagerKubeconfig}, []string{inside}},
	} {
		token := make([]byte, 16)
		if _, err := rand.Read(token); err != nil {
			return err
		}
		fmt.Fprintf(&tokens, "%x,%s,%s,system:masters\n", token, user.name, user.name)
		for index, file := range user.files {
			if err := writeKubeconfig(file, at.authority, user.server[index], user.name, hex.EncodeToString(token)); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(at.tokens, []byte(tokens.String()), 0o600); err != nil {
		return err
	}
	return os.WriteFile(at.auditPolicy, []byte(auditPolicy), 0o600)
}

// writeKubeconfig writes a kubeconfig that includes the certificate, so that it can be copied.
func writeKubeconfig(file, authorityFile, server, user, token string) error {
	authority, err := os.ReadFile(authorityFile)
	if err != nil {
		return err
	}
	const name = "dagster-ray"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[user] = &api.AuthInfo{Token: token}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: user, Namespace: "default"}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, file)
}
