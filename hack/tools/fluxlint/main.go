// Command fluxlint reads Flux's Kustomization and GitRepository objects from standard input (YAML documents) into
// Flux's own Go types, strictly: a field that Flux does not know is an error. It prints each object's kind and name.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "fluxlint:", err)
		os.Exit(1)
	}
}

func run(in io.Reader) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := check(document); err != nil {
			return err
		}
	}
}

func check(document []byte) error {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return err
	}
	switch meta.APIVersion + " " + meta.Kind {
	case kustomizev1.GroupVersion.String() + " " + kustomizev1.KustomizationKind:
		var object kustomizev1.Kustomization
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return err
		}
		fmt.Println(object.Kind, object.Name)
	case sourcev1.GroupVersion.String() + " " + sourcev1.GitRepositoryKind:
		var object sourcev1.GitRepository
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return err
		}
		fmt.Println(object.Kind, object.Name)
	default:
		return fmt.Errorf("%s %s is no object that this check knows", meta.APIVersion, meta.Kind)
	}
	return nil
}
