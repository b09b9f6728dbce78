// Command kstatus prints what kstatus, the library by which Flux, kapply and others judge an object, says of each
// object on its standard input (a JSON array). Output: a JSON array of {name, status, message}.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run() error {
	// Unstructured reads numbers as the API machinery does; plain encoding/json would make each a float64.
	var objects []unstructured.Unstructured
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("standard input is not a JSON array of objects: %w", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for i := range objects {
		u := &objects[i]
		result, err := status.Compute(u)
		if err != nil {
			return fmt.Errorf("%s: %w", u.GetName(), err)
		}
		verdicts = append(verdicts, verdict{Name: u.GetName(), Status: result.Status.String(), Message: result.Message})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}
