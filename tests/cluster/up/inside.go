package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Descriptors that the outer process passes on, after the three standard ones.
const (
	relayDescriptor = 3
	readyDescriptor = 4
)

// Limit of the time until the cluster is ready.
const startLimit = 3 * time.Minute

// inside is process 1 of the namespaces. It starts and restarts the programs; the kernel kills them
// when it ends.
func inside(chosen options) error {
	syscall.CloseOnExec(relayDescriptor)
	syscall.CloseOnExec(readyDescriptor)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	relayPort := os.Getenv(insideVariable)
	os.Unsetenv(insideVariable)

	at := layout(chosen.state)
	for _, directory := range []string{at.logs, at.pki, at.etcd, at.pods} {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			return err
		}
	}
	if err := prepareHost(at); err != nil {
		return err
	}
	if err := writeCertificates(at); err != nil {
		return err
	}
	if err := writeCredentials(at, relayPort); err != nil {
		return err
	}
	go reapOrphans()
	programs := describe(chosen, at)
	for _, one := range programs {
		go one.supervise()
	}
	if err := serveControl(at.control, programs); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(relayDescriptor, "relay"))
	if err != nil {
		return err
	}
	go relay(listener, net.JoinHostPort(kubernetesIP, apiServerPort))

	limited, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- start(limited, at, chosen.manifests, programs) }()
	for {
		select {
		case err := <-started:
			if err != nil {
				return fmt.Errorf("the cluster did not start: %w", err)
			}
			ready := os.NewFile(readyDescriptor, "ready")
			fmt.Fprintln(ready, "ready")
			ready.Close()
		case <-ends:
			return nil
		}
	}
}

// start starts each part of the cluster as soon as its dependencies are ready.
func start(ctx context.Context, at statePaths, manifests string, programs map[string]*program) error {
	programs["etcd"].start()
	if err := waitForPort(ctx, etcdURL[len("http://"):]); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	programs["kube-apiserver"].start()
	cluster, err := connect(at.insideKubeconfig)
	if err != nil {
		return err
	}
	if err := cluster.ready(ctx); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	programs["kube-controller-manager"].start()
	programs["kubelet"].start()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return cluster.installOperator(ctx, at, manifests, programs["kuberay-operator"]) })
	parts.Go(func() error { return cluster.nodeReady(ctx) })
	parts.Go(func() error { return cluster.defaultAccount(ctx) })
	return parts.Wait()
}

func waitForPort(ctx context.Context, address string) error {
	return poll(ctx, func() error {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// poll calls ask every 50 ms until it returns no error or the context ends.
func poll(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", startLimit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
