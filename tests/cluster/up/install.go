package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// Lifetime of the operator's token, longer than that of any test cluster.
const tokenSeconds = 7 * 24 * 3600

// cluster is a client of the API server with administrator rights.
type cluster struct {
	client kubernetes.Interface
}

func connect(kubeconfig string) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.UserAgent = "cluster-up"
	client, err := kubernetes.NewForConfig(config)
	return &cluster{client}, err
}

func (c *cluster) ready(ctx context.Context) error {
	return poll(ctx, func() error {
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (c *cluster) nodeReady(ctx context.Context) error {
	return poll(ctx, func() error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, nodeName, meta.GetOptions{})
		if err != nil {
			return fmt.Errorf("kubelet: %w", err)
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
				return nil
			}
		}
		return errors.New("kubelet: the node is not ready")
	})
}

// defaultAccount waits for the objects without which no pod can be created in the namespace.
func (c *cluster) defaultAccount(ctx context.Context) error {
	return poll(ctx, func() error {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{})
		if err == nil {
			_, err = c.client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", meta.GetOptions{})
		}
		return err
	})
}

// installOperator installs what KubeRay's Helm chart installs: the CRDs, a service account with only
// the operator's role, and the operator.
func (c *cluster) installOperator(ctx context.Context, at statePaths, manifests string, operator *program) error {
	definitions, err := filepath.Glob(filepath.Join(manifests, "crd", "bases", "*.yaml"))
	if err != nil {
		return err
	}
	if len(definitions) == 0 {
		return fmt.Errorf("%s has no files crd/bases/*.yaml: give the operator's config directory", manifests)
	}
	var names []string
	for _, file := range definitions {
		name, err := c.create(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", file)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := c.operatorAccount(ctx, at, manifests); err != nil {
		return err
	}
	for _, name := range names {
		if err := c.established(ctx, name); err != nil {
			return err
		}
	}
	operator.start()
	return poll(ctx, func() error {
		response, err := http.Get("http://" + operatorProbe + "/readyz")
		if err != nil {
			return fmt.Errorf("kuberay-operator: %w", err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("kuberay-operator: %s", response.Status)
		}
		return nil
	})
}

// create posts the object in a YAML file and returns its name.
func (c *cluster) create(ctx context.Context, path, file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var object meta.PartialObjectMetadata
	if err := yaml.Unmarshal(text, &object); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	body, err := yaml.YAMLToJSON(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	err = c.client.Discovery().RESTClient().Post().AbsPath(path).
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return object.Name, nil
}

func (c *cluster) established(ctx context.Context, name string) error {
	return poll(ctx, func() error {
		raw, err := c.client.Discovery().RESTClient().Get().
			AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", name).DoRaw(ctx)
		if err != nil {
			return err
		}
		var definition struct {
			Status struct {
				Conditions []meta.Condition `json:"conditions"`
			} `json:"status"`
		}
		if err := yaml.Unmarshal(raw, &definition); err != nil {
			return err
		}
		for _, condition := range definition.Status.Conditions {
			if condition.Type == "Established" && condition.Status == meta.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%s is not established", name)
	})
}

func (c *cluster) operatorAccount(ctx context.Context, at statePaths, manifests string) error {
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, &core.Namespace{
		ObjectMeta: meta.ObjectMeta{Name: operatorNamespace},
	}, meta.CreateOptions{}); err != nil {
		return err
	}
	account, err := c.client.CoreV1().ServiceAccounts(operatorNamespace).Create(ctx, &core.ServiceAccount{
		ObjectMeta: meta.ObjectMeta{Name: operatorUser},
	}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	role, err := c.create(ctx, "/apis/rbac.authorization.k8s.io/v1/clusterroles", filepath.Join(manifests, "rbac", "role.yaml"))
	if err != nil {
		return err
	}
	if _, err := c.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbac.ClusterRoleBinding{
		ObjectMeta: meta.ObjectMeta{Name: operatorUser},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbac.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: account.Name}},
	}, meta.CreateOptions{}); err != nil {
		return err
	}
	seconds := int64(tokenSeconds)
	token, err := c.client.CoreV1().ServiceAccounts(operatorNamespace).CreateToken(ctx, account.Name,
		&authentication.TokenRequest{Spec: authentication.TokenRequestSpec{ExpirationSeconds: &seconds}}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	server := "https://" + kubernetesIP + ":" + apiServerPort
	return writeKubeconfig(at.operatorKubeconfig, at.authority, server, operatorUser, token.Status.Token)
}
