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

// The audit log tells which client asked for what. The start of a long request (a watch) is logged
// as well as its end, so that it counts while it lasts.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// writeCredentials makes a user for each program and the kubeconfigs that hold their tokens.
func writeCredentials(at places, relayPort string) error {
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

// writeKubeconfig writes one with everything in it: it can be copied elsewhere.
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
