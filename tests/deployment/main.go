// Reads what docker/ offers to others as those who run it will: the compose file with the reference loader of the compose
// specification, and the Kubernetes objects into Kubernetes' own types, where a field that does not exist is an error.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

func main() {
	folder := os.Args[1]
	for name, check := range map[string]func(string) error{
		"compose.yaml":            compose,
		"kubernetes/thalweg.yaml": kubernetes,
	} {
		if err := check(filepath.Join(folder, name)); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Println(name, "is read as it should be")
	}
}

func compose(path string) error {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("thalweg"))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	for _, service := range project.Services {
		for _, volume := range service.Volumes {
			if _, err := os.Stat(volume.Source); volume.Type == "bind" && err != nil {
				return fmt.Errorf("service %s mounts what is not there: %w", service.Name, err)
			}
		}
	}
	if _, err := project.GetService("thalweg"); err != nil {
		return err
	}
	return nil
}

func kubernetes(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	kinds := map[string]any{}
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var head struct{ Kind, APIVersion string }
		if err := strict.Unmarshal(document, &head); err != nil {
			return err
		}
		var object any
		switch head.APIVersion + " " + head.Kind {
		case "v1 ConfigMap":
			object = &core.ConfigMap{}
		case "v1 Service":
			object = &core.Service{}
		case "apps/v1 StatefulSet":
			object = &apps.StatefulSet{}
		default:
			return fmt.Errorf("an object of another kind: %+v", head)
		}
		if err := strict.UnmarshalStrict(document, object); err != nil {
			return fmt.Errorf("%s: %w", head.Kind, err)
		}
		kinds[head.Kind] = object
	}
	return fits(kinds)
}

// What names what must be there.
func fits(kinds map[string]any) error {
	set, there := kinds["StatefulSet"].(*apps.StatefulSet)
	sql, sqlThere := kinds["ConfigMap"].(*core.ConfigMap)
	if !there || !sqlThere {
		return errors.New("the StatefulSet or its ConfigMap is missing")
	}
	pod := set.Spec.Template.Spec
	container := pod.Containers[0]
	ports := map[string]bool{}
	for _, port := range container.Ports {
		ports[port.Name] = true
	}
	for name, probe := range map[string]*core.Probe{
		"liveness": container.LivenessProbe, "readiness": container.ReadinessProbe, "startup": container.StartupProbe,
	} {
		if probe == nil || probe.HTTPGet == nil || !ports[probe.HTTPGet.Port.StrVal] {
			return fmt.Errorf("the %s probe asks no port of the container", name)
		}
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = true
	}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		volumes[claim.Name] = true
	}
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			return fmt.Errorf("nothing is mounted as %s", mount.Name)
		}
	}
	for _, argument := range container.Args {
		if name, err := filepath.Rel("/sql", argument); err == nil && filepath.IsAbs(argument) {
			if _, there := sql.Data[name]; !there {
				return fmt.Errorf("the ConfigMap has no %s", name)
			}
		}
	}
	return nil
}
