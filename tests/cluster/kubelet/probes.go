package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Probes do not verify certificates, as in Kubernetes.
var probeClient = &http.Client{Transport: &http.Transport{
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	DisableKeepAlives: true,
}}

// probe runs the container's probes until it has ended.
func (c *container) probe(died <-chan struct{}) {
	if probe := c.spec.StartupProbe; probe != nil {
		if !c.watch("Startup", probe, died, func(passed bool) bool {
			if passed {
				c.pod.change(func() {
					c.started = true
					c.ready = c.spec.ReadinessProbe == nil
				})
				return false
			}
			c.unhealthy("startup")
			return false
		}) {
			return
		}
		c.pod.mu.Lock()
		started := c.started
		c.pod.mu.Unlock()
		if !started {
			return
		}
	}
	if probe := c.spec.LivenessProbe; probe != nil {
		go c.watch("Liveness", probe, died, func(passed bool) bool {
			if !passed {
				c.unhealthy("liveness")
			}
			return passed
		})
	}
	if probe := c.spec.ReadinessProbe; probe != nil {
		c.watch("Readiness", probe, died, func(passed bool) bool {
			c.pod.change(func() { c.ready = passed && c.process != nil })
			return true
		})
	}
}

// unhealthy stops the container. The restart policy decides whether it is started again.
func (c *container) unhealthy(kind string) {
	c.pod.event(core.EventTypeNormal, "Killing", fmt.Sprintf("Container %s failed %s probe, will be restarted", c.spec.Name, kind))
	go c.stop()
}

// watch runs a probe periodically and calls tell each time that a threshold is reached. It ends when
// tell returns false or the container ends, and returns whether the container is still running.
func (c *container) watch(kind string, probe *core.Probe, died <-chan struct{}, tell func(passed bool) bool) bool {
	pause := func(seconds int32) bool {
		select {
		case <-died:
			return false
		case <-time.After(time.Duration(seconds) * time.Second):
			return true
		}
	}
	if !pause(probe.InitialDelaySeconds) {
		return false
	}
	passes, failures := int32(0), int32(0)
	for {
		timeout := time.Duration(max(probe.TimeoutSeconds, 1)) * time.Second
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		err := c.ask(ctx, probe)
		cancel()
		select {
		case <-died:
			return false
		default:
		}
		if err == nil {
			passes, failures = passes+1, 0
			if passes >= max(probe.SuccessThreshold, 1) && !tell(true) {
				return true
			}
		} else {
			passes, failures = 0, failures+1
			c.pod.event(core.EventTypeWarning, "Unhealthy", kind+" probe failed: "+err.Error())
			if failures >= max(probe.FailureThreshold, 1) && !tell(false) {
				return true
			}
		}
		if !pause(max(probe.PeriodSeconds, 1)) {
			return false
		}
	}
}

func (c *container) ask(ctx context.Context, probe *core.Probe) error {
	switch {
	case probe.Exec != nil:
		return c.askExec(ctx, probe.Exec.Command)
	case probe.HTTPGet != nil:
		return c.askHTTP(ctx, probe.HTTPGet)
	case probe.TCPSocket != nil:
		port, err := c.port(probe.TCPSocket.Port)
		if err != nil {
			return err
		}
		host := probe.TCPSocket.Host
		if host == "" {
			host = c.pod.ip()
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return connection.Close()
	}
	return errors.New("this kubelet supports only exec, httpGet and tcpSocket probes")
}

func (c *container) askExec(ctx context.Context, argv []string) error {
	var output bytes.Buffer
	err := c.execute(ctx, argv, nil, &output, &output, nil)
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return fmt.Errorf("command timed out: %q", argv)
	}
	if errors.As(err, &exit) {
		return fmt.Errorf("command ended with exit code %d: %s", exitCode(exit.ProcessState), bytes.TrimSpace(output.Bytes()))
	}
	return err
}

func (c *container) askHTTP(ctx context.Context, get *core.HTTPGetAction) error {
	port, err := c.port(get.Port)
	if err != nil {
		return err
	}
	host, scheme := get.Host, "http"
	if host == "" {
		host = c.pod.ip()
	}
	if get.Scheme == core.URISchemeHTTPS {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		scheme+"://"+net.JoinHostPort(host, strconv.Itoa(port))+"/"+trimSlash(get.Path), nil)
	if err != nil {
		return err
	}
	for _, header := range get.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 10<<10))
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return nil
}

func trimSlash(path string) string {
	if path != "" && path[0] == '/' {
		return path[1:]
	}
	return path
}

func (c *container) port(reference intstr.IntOrString) (int, error) {
	if reference.Type == intstr.Int {
		return reference.IntValue(), nil
	}
	for _, port := range c.spec.Ports {
		if port.Name == reference.StrVal {
			return int(port.ContainerPort), nil
		}
	}
	return strconv.Atoi(reference.StrVal)
}

// hook runs a postStart or preStop hook. A failure is only recorded as an event.
func (c *container) hook(handler *core.LifecycleHandler) {
	var err error
	switch {
	case handler.Exec != nil:
		err = c.askExec(context.Background(), handler.Exec.Command)
	case handler.HTTPGet != nil:
		err = c.askHTTP(context.Background(), handler.HTTPGet)
	case handler.Sleep != nil:
		time.Sleep(time.Duration(handler.Sleep.Seconds) * time.Second)
	}
	if err != nil {
		c.pod.event(core.EventTypeWarning, "FailedLifecycleHook", err.Error())
	}
}
