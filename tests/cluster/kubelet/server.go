package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	streamIdle     = 4 * time.Hour
	streamCreation = 30 * time.Second
)

// serveAPI serves the kubelet's API, which the API server uses for logs, exec and port-forward. Clients
// without a certificate of the client authority are refused.
func (k *kubelet) serveAPI() error {
	certificate, err := tls.LoadX509KeyPair(k.certificate, k.key)
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(k.clientAuthority)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(authority) {
		return fmt.Errorf("-client-authority %s contains no certificate in PEM", k.clientAuthority)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(k.nodeIP, strconv.Itoa(kubeletPort)))
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(response http.ResponseWriter, _ *http.Request) { fmt.Fprint(response, "ok") })
	routes.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	routes.HandleFunc("/portForward/{namespace}/{pod}", k.servePortForward)
	server := &http.Server{
		Handler: routes,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    clients,
			MinVersion:   tls.VersionTLS12,
			// Exec and port-forward upgrade the connection, which HTTP/2 does not allow.
			NextProtos: []string{"http/1.1"},
		},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return nil
}

func (k *kubelet) lookUp(response http.ResponseWriter, request *http.Request) (*pod, *container) {
	namespace, name := request.PathValue("namespace"), request.PathValue("pod")
	found := k.find(namespace, name)
	if found == nil {
		http.Error(response, fmt.Sprintf("pod %q not found in namespace %q", name, namespace), http.StatusNotFound)
		return nil, nil
	}
	c := found.find(request.PathValue("container"))
	if c == nil {
		http.Error(response, fmt.Sprintf("container %s not found in pod %s", request.PathValue("container"), name), http.StatusNotFound)
		return nil, nil
	}
	return found, c
}

func (k *kubelet) serveLogs(response http.ResponseWriter, request *http.Request) {
	_, c := k.lookUp(response, request)
	if c == nil {
		return
	}
	options, err := parseLogOptions(request.URL.Query())
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	c.pod.mu.Lock()
	log, previous, waiting := c.log, c.previous, c.state.Waiting
	c.pod.mu.Unlock()
	if request.URL.Query().Get("previous") == "true" {
		// While the container waits for its restart, the last run counts as the previous one.
		if waiting != nil {
			previous = log
		}
		if previous == nil {
			http.Error(response, fmt.Sprintf("previous terminated container %q in pod %q not found",
				c.spec.Name, c.pod.current().Name), http.StatusBadRequest)
			return
		}
		log = previous
	}
	if log == nil {
		reason := "ContainerCreating"
		if waiting != nil {
			reason = waiting.Reason
		}
		http.Error(response, fmt.Sprintf("container %q in pod %q is waiting to start: %s",
			c.spec.Name, c.pod.current().Name, reason), http.StatusBadRequest)
		return
	}
	response.Header().Set("Content-Type", "text/plain")
	response.WriteHeader(http.StatusOK)
	if flusher, ok := response.(http.Flusher); ok {
		flusher.Flush()
	}
	_ = log.copyTo(request.Context(), response, options)
}

func parseLogOptions(query url.Values) (logOptions, error) {
	options := logOptions{
		tail: -1, limit: -1,
		follow:     query.Get("follow") == "true",
		timestamps: query.Get("timestamps") == "true",
	}
	number := func(name string, to *int64) error {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < 0 {
			return fmt.Errorf("%s=%q is not a number of 0 or more", name, text)
		}
		*to = value
		return nil
	}
	since := int64(-1)
	if err := errors.Join(number("tailLines", &options.tail), number("limitBytes", &options.limit), number("sinceSeconds", &since)); err != nil {
		return options, err
	}
	if since >= 0 {
		options.since = time.Now().Add(-time.Duration(since) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		moment, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return options, err
		}
		options.since = moment
	}
	return options, nil
}

func (k *kubelet) serveExec(response http.ResponseWriter, request *http.Request) {
	found, c := k.lookUp(response, request)
	if c == nil {
		return
	}
	options, err := remotecommand.NewOptions(request)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(response, request, executor{c}, found.current().Name, string(found.uid), c.spec.Name,
		request.URL.Query()["command"], options, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func (k *kubelet) servePortForward(response http.ResponseWriter, request *http.Request) {
	found, _ := k.lookUp(response, request)
	if found == nil {
		return
	}
	options, err := portforward.NewV4Options(request)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(response, request, forwarder{found}, found.current().Name, string(found.uid),
		options, streamIdle, streamCreation, portforward.SupportedProtocols)
}

// serveControl serves the Unix socket through which tests kill containers:
//
//	POST /pods/NAMESPACE/NAME/kill?container=NAME    sends SIGKILL; without a name, to all containers
func (k *kubelet) serveControl() error {
	if err := os.Remove(k.control); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", k.control)
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /pods/{namespace}/{pod}/kill", func(response http.ResponseWriter, request *http.Request) {
		found, _ := k.lookUp(response, request)
		if found == nil {
			return
		}
		name := request.URL.Query().Get("container")
		killed := 0
		for _, one := range append(append([]*container{}, found.main...), found.initial...) {
			if process := one.running(); process != nil && (name == "" || name == one.spec.Name) {
				_ = process.Process.Kill()
				killed++
			}
		}
		if killed == 0 {
			http.Error(response, "no container to kill is running", http.StatusConflict)
			return
		}
		found.event(core.EventTypeWarning, "Killed", "a container was killed through the control socket")
	})
	go func() { _ = http.Serve(listener, routes) }()
	return nil
}
