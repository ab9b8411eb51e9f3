package main

import (
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The default working directory of a container: the home directory of the user in Ray's images.
const containerHome = "/home/ray"

// environment returns the variables of a container, as a list and by name. It contains no variable of
// the machine.
func (p *pod) environment(spec *core.Container) ([]string, map[string]string, error) {
	object := p.current()
	values := map[string]string{
		"PATH":                          filepath.Join(p.k.pythonPrefix, "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME":                          containerHome,
		"HOSTNAME":                      object.Name,
		"LANG":                          "C.UTF-8",
		"PYTHONDONTWRITEBYTECODE":       "1",
		"KUBERNETES_SERVICE_HOST":       p.k.kubernetesIP,
		"KUBERNETES_SERVICE_PORT":       "443",
		"KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT":               "tcp://" + p.k.kubernetesIP + ":443",
		"KUBERNETES_PORT_443_TCP_ADDR":  p.k.kubernetesIP,
		"KUBERNETES_PORT_443_TCP_PORT":  "443",
		"KUBERNETES_PORT_443_TCP_PROTO": "tcp",
		"KUBERNETES_PORT_443_TCP":       "tcp://" + p.k.kubernetesIP + ":443",
	}
	for _, source := range spec.EnvFrom {
		more, err := p.environmentFrom(source)
		if err != nil {
			return nil, nil, err
		}
		for name, value := range more {
			values[source.Prefix+name] = value
		}
	}
	for _, variable := range spec.Env {
		if variable.ValueFrom == nil {
			values[variable.Name] = expand(variable.Value, values)
			continue
		}
		value, found, err := p.valueFrom(variable.ValueFrom, spec)
		if err != nil {
			return nil, nil, err
		}
		if found {
			values[variable.Name] = value
		}
	}
	list := make([]string, 0, len(values))
	for name, value := range values {
		list = append(list, name+"="+value)
	}
	sort.Strings(list)
	return list, values, nil
}

func (p *pod) environmentFrom(source core.EnvFromSource) (map[string]string, error) {
	switch {
	case source.ConfigMapRef != nil:
		data, err := p.configMap(source.ConfigMapRef.Name, source.ConfigMapRef.Optional)
		texts := map[string]string{}
		for key, value := range data {
			texts[key] = string(value)
		}
		return texts, err
	case source.SecretRef != nil:
		data, err := p.secret(source.SecretRef.Name, source.SecretRef.Optional)
		texts := map[string]string{}
		for key, value := range data {
			texts[key] = string(value)
		}
		return texts, err
	}
	return nil, nil
}

func (p *pod) valueFrom(source *core.EnvVarSource, spec *core.Container) (string, bool, error) {
	pick := func(data map[string][]byte, key string, optional *bool, kind, name string) (string, bool, error) {
		value, found := data[key]
		if !found && (optional == nil || !*optional) {
			return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, p.current().Namespace, name)
		}
		return string(value), found, nil
	}
	switch {
	case source.FieldRef != nil:
		value, err := p.field(source.FieldRef.FieldPath)
		return value, true, err
	case source.ResourceFieldRef != nil:
		value, err := p.resourceField(source.ResourceFieldRef, spec)
		return value, true, err
	case source.ConfigMapKeyRef != nil:
		from := source.ConfigMapKeyRef
		data, err := p.configMap(from.Name, from.Optional)
		if err != nil {
			return "", false, err
		}
		return pick(data, from.Key, from.Optional, "ConfigMap", from.Name)
	case source.SecretKeyRef != nil:
		from := source.SecretKeyRef
		data, err := p.secret(from.Name, from.Optional)
		if err != nil {
			return "", false, err
		}
		return pick(data, from.Key, from.Optional, "Secret", from.Name)
	}
	return "", false, fmt.Errorf("this kubelet does not support this source of a variable: %v", source)
}

// field returns the value of a fieldPath of the downward API.
func (p *pod) field(path string) (string, error) {
	object := p.current()
	if name, key, found := subscript(path); found {
		switch name {
		case "metadata.labels":
			return object.Labels[key], nil
		case "metadata.annotations":
			return object.Annotations[key], nil
		}
	}
	fields := map[string]string{
		"metadata.name":           object.Name,
		"metadata.namespace":      object.Namespace,
		"metadata.uid":            string(object.UID),
		"spec.nodeName":           object.Spec.NodeName,
		"spec.serviceAccountName": object.Spec.ServiceAccountName,
		"status.hostIP":           p.k.nodeIP,
		"status.hostIPs":          p.k.nodeIP,
		"status.podIP":            p.ip(),
		"status.podIPs":           p.ip(),
		"metadata.labels":         mapLines(object.Labels),
		"metadata.annotations":    mapLines(object.Annotations),
	}
	value, found := fields[path]
	if !found {
		return "", fmt.Errorf("unsupported fieldPath: %s", path)
	}
	return value, nil
}

func subscript(path string) (name, key string, found bool) {
	name, rest, found := strings.Cut(path, "['")
	if !found {
		return "", "", false
	}
	key, found = strings.CutSuffix(rest, "']")
	return name, key, found
}

func mapLines(values map[string]string) string {
	var lines []string
	for key, value := range values {
		lines = append(lines, key+"="+strconv.Quote(value))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func (p *pod) resourceField(from *core.ResourceFieldSelector, spec *core.Container) (string, error) {
	for _, other := range p.current().Spec.Containers {
		if from.ContainerName == other.Name {
			spec = &other
			break
		}
	}
	kind, name, _ := strings.Cut(from.Resource, ".")
	list := map[string]core.ResourceList{"limits": spec.Resources.Limits, "requests": spec.Resources.Requests}[kind]
	amount, found := list[core.ResourceName(name)]
	if !found && kind == "limits" {
		// The limit of a container without one is the capacity of the node.
		amount, found = map[string]resource.Quantity{
			"cpu": resource.MustParse(p.k.cpus), "memory": resource.MustParse(p.k.memory),
		}[name]
	}
	if !found {
		return "0", nil
	}
	divisor := from.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == "cpu" {
		return strconv.FormatInt((amount.MilliValue()+divisor.MilliValue()-1)/divisor.MilliValue(), 10), nil
	}
	return strconv.FormatInt((amount.Value()+divisor.Value()-1)/divisor.Value(), 10), nil
}

// configMap reads a ConfigMap. A missing one is an error unless it is optional.
func (p *pod) configMap(name string, optional *bool) (map[string][]byte, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := p.k.client.CoreV1().ConfigMaps(p.current().Namespace).Get(ctx, name, meta.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) && optional != nil && *optional {
			return nil, nil
		}
		return nil, err
	}
	data := map[string][]byte{}
	for key, value := range found.Data {
		data[key] = []byte(value)
	}
	for key, value := range found.BinaryData {
		data[key] = value
	}
	return data, nil
}

func (p *pod) secret(name string, optional *bool) (map[string][]byte, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := p.k.client.CoreV1().Secrets(p.current().Namespace).Get(ctx, name, meta.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) && optional != nil && *optional {
			return nil, nil
		}
		return nil, err
	}
	return found.Data, nil
}

// expand replaces $(NAME) if the variable exists, and $$ with a dollar sign.
func expand(text string, values map[string]string) string {
	var result strings.Builder
	for index := 0; index < len(text); index++ {
		if text[index] != '$' || index+1 == len(text) {
			result.WriteByte(text[index])
			continue
		}
		switch text[index+1] {
		case '$':
			result.WriteByte('$')
			index++
		case '(':
			end := strings.IndexByte(text[index:], ')')
			if end < 0 {
				result.WriteString("$(")
				index++
				continue
			}
			name := text[index+2 : index+end]
			if value, found := values[name]; found {
				result.WriteString(value)
			} else {
				result.WriteString(text[index : index+end+1])
			}
			index += end
		default:
			result.WriteByte('$')
		}
	}
	return result.String()
}
