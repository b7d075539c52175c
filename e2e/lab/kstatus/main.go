// Command kstatus reads objects (YAML or JSON, one or many documents, a List counts as its items) on standard input
// and judges each by the rules of sigs.k8s.io/cli-utils, which Flux, Argo CD and `kpt live` follow.
//
// It prints one line an object, "KIND NAMESPACE/NAME STATUS MESSAGE", and ends with 1 if any differs from -want,
// with 2 if the input can't be read or holds no object.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	want := flag.String("want", "", "the status that every object must have: Current, InProgress, Failed, Terminating, NotFound, Unknown")
	flag.Parse()
	asWanted, err := judge(os.Stdin, os.Stdout, *want)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(2)
	}
	if !asWanted {
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer, want string) (bool, error) {
	objects, err := read(in)
	if err != nil {
		return false, err
	}
	if len(objects) == 0 {
		return false, errors.New("no object on standard input")
	}
	asWanted := true
	for _, object := range objects {
		result, err := status.Compute(object)
		if err != nil {
			return false, fmt.Errorf("judging %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
		}
		message := strings.Join(strings.Fields(result.Message), " ")
		fmt.Fprintf(out, "%s %s/%s %s %s\n", object.GetKind(), object.GetNamespace(), object.GetName(), result.Status, message)
		if want != "" && result.Status.String() != want {
			asWanted = false
		}
	}
	return asWanted, nil
}

func read(in io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(in, 4096)
	for {
		var document json.RawMessage
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading after %d objects: %w", len(objects), err)
		}
		if len(document) == 0 || string(document) == "null" {
			continue
		}
		// Its own decoding keeps whole numbers whole, as the rules need them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(document); err != nil {
			return nil, fmt.Errorf("reading after %d objects: %w", len(objects), err)
		}
		if !object.IsList() {
			objects = append(objects, object)
			continue
		}
		err := object.EachListItem(func(item runtime.Object) error {
			objects = append(objects, item.(*unstructured.Unstructured))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading a list: %w", err)
		}
	}
}
