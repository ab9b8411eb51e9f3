package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Time between two updates of files that come from the API. An update renews tokens and shows
	// changes of ConfigMaps.
	refreshPause     = time.Minute
	defaultTokenLife = int64(3600)
)

// fileSet is the content of a volume that comes from the API, by file name.
type fileSet map[string]file

type file struct {
	text []byte
	mode os.FileMode
}

func (p *pod) volumePath(name string) string { return filepath.Join(p.directory, "volumes", name) }

// prepareVolumes creates the pod's volumes, or updates them if they exist.
func (p *pod) prepareVolumes() error {
	for index := range p.current().Spec.Volumes {
		volume := &p.current().Spec.Volumes[index]
		path := p.volumePath(volume.Name)
		switch {
		case volume.HostPath != nil:
			if err := prepareHostPath(volume.HostPath); err != nil {
				return fmt.Errorf("volume %q: %w", volume.Name, err)
			}
			continue
		case volume.EmptyDir != nil:
			if _, err := os.Stat(path); err == nil {
				continue
			}
			if err := os.MkdirAll(path, 0o777); err != nil {
				return err
			}
			if err := os.Chmod(path, 0o777); err != nil {
				return err
			}
			if volume.EmptyDir.Medium != core.StorageMediumMemory {
				continue
			}
			options := "mode=1777"
			if limit := volume.EmptyDir.SizeLimit; limit != nil {
				options += fmt.Sprintf(",size=%d", limit.Value())
			}
			if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
				return fmt.Errorf("volume %q: %w", volume.Name, err)
			}
		default:
			files, err := p.volumeFiles(volume)
			if err != nil {
				return fmt.Errorf("MountVolume.SetUp failed for volume %q: %w", volume.Name, err)
			}
			if err := files.write(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pod) refreshVolumes() {
	ticks := time.NewTicker(refreshPause)
	defer ticks.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-ticks.C:
			// Files that cannot be read from the API keep their content.
			_ = p.prepareVolumes()
		}
	}
}

func (p *pod) releaseVolumes() {
	for _, volume := range p.current().Spec.Volumes {
		if volume.EmptyDir != nil && volume.EmptyDir.Medium == core.StorageMediumMemory {
			_ = unix.Unmount(p.volumePath(volume.Name), unix.MNT_DETACH)
		}
	}
}

func prepareHostPath(source *core.HostPathVolumeSource) error {
	kind := core.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	switch kind {
	case core.HostPathDirectoryOrCreate:
		return os.MkdirAll(source.Path, 0o755)
	case core.HostPathFileOrCreate:
		made, err := os.OpenFile(source.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return made.Close()
	default:
		_, err := os.Stat(source.Path)
		return err
	}
}

func (p *pod) volumeFiles(volume *core.Volume) (fileSet, error) {
	files := fileSet{}
	switch {
	case volume.ConfigMap != nil:
		from := volume.ConfigMap
		data, err := p.configMap(from.Name, from.Optional)
		if err != nil {
			return nil, err
		}
		return files, files.add(data, from.Items, from.DefaultMode, from.Optional)
	case volume.Secret != nil:
		from := volume.Secret
		data, err := p.secret(from.SecretName, from.Optional)
		if err != nil {
			return nil, err
		}
		return files, files.add(data, from.Items, from.DefaultMode, from.Optional)
	case volume.DownwardAPI != nil:
		return files, p.addDownward(files, volume.DownwardAPI.Items, volume.DownwardAPI.DefaultMode)
	case volume.Projected != nil:
		for index := range volume.Projected.Sources {
			if err := p.addProjection(files, &volume.Projected.Sources[index], volume.Projected.DefaultMode); err != nil {
				return nil, err
			}
		}
		return files, nil
	}
	return nil, fmt.Errorf("this kubelet supports only emptyDir, hostPath, configMap, secret, downwardAPI and projected volumes")
}

func (p *pod) addProjection(files fileSet, source *core.VolumeProjection, mode *int32) error {
	switch {
	case source.ServiceAccountToken != nil:
		token, err := p.token(source.ServiceAccountToken)
		if err != nil {
			return err
		}
		files[source.ServiceAccountToken.Path] = file{[]byte(token), fileMode(mode)}
	case source.ConfigMap != nil:
		data, err := p.configMap(source.ConfigMap.Name, source.ConfigMap.Optional)
		if err != nil {
			return err
		}
		return files.add(data, source.ConfigMap.Items, mode, source.ConfigMap.Optional)
	case source.Secret != nil:
		data, err := p.secret(source.Secret.Name, source.Secret.Optional)
		if err != nil {
			return err
		}
		return files.add(data, source.Secret.Items, mode, source.Secret.Optional)
	case source.DownwardAPI != nil:
		return p.addDownward(files, source.DownwardAPI.Items, mode)
	default:
		return fmt.Errorf("this kubelet supports only serviceAccountToken, configMap, secret and downwardAPI in projected volumes")
	}
	return nil
}

func (p *pod) addDownward(files fileSet, items []core.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		var text string
		var err error
		if item.FieldRef != nil {
			text, err = p.field(item.FieldRef.FieldPath)
		} else {
			text, err = p.resourceField(item.ResourceFieldRef, &p.current().Spec.Containers[0])
		}
		if err != nil {
			return err
		}
		files[item.Path] = file{[]byte(text), fileMode(mode)}
	}
	return nil
}

// token returns a service account token that is bound to the pod. It is renewed after four fifths of
// its lifetime.
func (p *pod) token(from *core.ServiceAccountTokenProjection) (string, error) {
	object := p.current()
	seconds := defaultTokenLife
	if from.ExpirationSeconds != nil {
		seconds = *from.ExpirationSeconds
	}
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: object.Name, UID: object.UID},
	}}
	if from.Audience != "" {
		request.Spec.Audiences = []string{from.Audience}
	}
	p.mu.Lock()
	held, found := p.tokens[from.Path]
	p.mu.Unlock()
	if found && time.Until(held.renew) > 0 {
		return held.text, nil
	}
	ctx, cancel := limited()
	defer cancel()
	created, err := p.k.client.CoreV1().ServiceAccounts(object.Namespace).
		CreateToken(ctx, object.Spec.ServiceAccountName, request, meta.CreateOptions{})
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	life := time.Until(created.Status.ExpirationTimestamp.Time)
	p.tokens[from.Path] = heldToken{created.Status.Token, time.Now().Add(life * 4 / 5)}
	return created.Status.Token, nil
}

func (files fileSet) add(data map[string][]byte, items []core.KeyToPath, mode *int32, optional *bool) error {
	if len(items) == 0 {
		for key, text := range data {
			files[key] = file{text, fileMode(mode)}
		}
		return nil
	}
	for _, item := range items {
		text, found := data[item.Key]
		if !found {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("references non-existent config key: %s", item.Key)
		}
		chosen := fileMode(mode)
		if item.Mode != nil {
			chosen = fileMode(item.Mode)
		}
		files[item.Path] = file{text, chosen}
	}
	return nil
}

func fileMode(mode *int32) os.FileMode {
	if mode == nil {
		return 0o644
	}
	return os.FileMode(*mode)
}

// write writes the changed files. Each is replaced atomically: readers see the old or the new content.
func (files fileSet) write(directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for name, one := range files {
		path := filepath.Join(directory, name)
		if held, err := os.ReadFile(path); err == nil && bytes.Equal(held, one.text) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		fresh := path + ".new"
		if err := os.WriteFile(fresh, one.text, one.mode); err != nil {
			return err
		}
		if err := os.Rename(fresh, path); err != nil {
			return err
		}
	}
	return nil
}

// mounts returns the mounts of a container: its volumes, and the directories that each container has
// itself.
func (p *pod) mounts(c *container, values map[string]string) ([]bindMount, error) {
	layer := filepath.Join(c.directory, "layer")
	// A restarted container begins with the files of its image.
	if err := os.RemoveAll(layer); err != nil {
		return nil, err
	}
	mounts := []bindMount{}
	for _, own := range []struct {
		name, target string
		mode         os.FileMode
	}{
		{"tmp", "/tmp", os.ModeSticky | 0o777},
		{"home", containerHome, 0o755},
	} {
		path := filepath.Join(layer, own.name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, own.mode); err != nil {
			return nil, err
		}
		mounts = append(mounts, bindMount{Source: path, Target: own.target})
	}
	if p.k.visible != "" {
		// The directory may be below one that the container replaces, such as /tmp.
		mounts = append(mounts, bindMount{Source: p.k.visible, Target: p.k.visible, ReadOnly: true})
	}
	mounts = append(mounts, bindMount{Target: "/dev/shm", Tmpfs: "mode=1777,size=64m"})
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		mounts = append(mounts, bindMount{Source: filepath.Join(p.directory, "etc", name), Target: "/etc/" + name})
	}
	hostPaths := map[string]string{}
	for _, volume := range p.current().Spec.Volumes {
		if volume.HostPath != nil {
			hostPaths[volume.Name] = volume.HostPath.Path
		}
	}
	for _, mount := range c.spec.VolumeMounts {
		source, found := hostPaths[mount.Name]
		if !found {
			source = p.volumePath(mount.Name)
		}
		below := mount.SubPath
		if mount.SubPathExpr != "" {
			below = expand(mount.SubPathExpr, values)
		}
		if below != "" {
			source = filepath.Join(source, filepath.Clean("/"+below))
			if _, err := os.Stat(source); os.IsNotExist(err) {
				if err := os.MkdirAll(source, 0o755); err != nil {
					return nil, err
				}
			}
		}
		mounts = append(mounts, bindMount{Source: source, Target: mount.MountPath, ReadOnly: mount.ReadOnly})
	}
	return mounts, nil
}

// writeEtc writes the pod's hosts, hostname and resolv.conf.
func (p *pod) writeEtc() error {
	object := p.current()
	search := fmt.Sprintf("%s.svc.%s svc.%s %s", object.Namespace, p.k.domain, p.k.domain, p.k.domain)
	name := p.hostname()
	own := name
	if object.Spec.Subdomain != "" {
		own = fmt.Sprintf("%s.%s.%s.svc.%s\t%s", name, object.Spec.Subdomain, object.Namespace, p.k.domain, name)
	}
	hosts := fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s\n", p.ip(), own)
	for _, alias := range object.Spec.HostAliases {
		for _, one := range alias.Hostnames {
			hosts += fmt.Sprintf("%s\t%s\n", alias.IP, one)
		}
	}
	return fileSet{
		"hosts":       {[]byte(hosts), 0o644},
		"hostname":    {[]byte(name + "\n"), 0o644},
		"resolv.conf": {fmt.Appendf(nil, "nameserver %s\nsearch %s\noptions ndots:5\n", p.k.nodeIP, search), 0o644},
	}.write(filepath.Join(p.directory, "etc"))
}
