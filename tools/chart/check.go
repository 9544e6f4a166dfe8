package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds are those that the chart makes, by apiVersion and kind.
var kinds = map[string]func() any{
	"v1 ConfigMap":                  func() any { return new(corev1.ConfigMap) },
	"v1 Service":                    func() any { return new(corev1.Service) },
	"apps/v1 StatefulSet":           func() any { return new(appsv1.StatefulSet) },
	"batch/v1 Job":                  func() any { return new(batchv1.Job) },
	"batch/v1 CronJob":              func() any { return new(batchv1.CronJob) },
	"policy/v1 PodDisruptionBudget": func() any { return new(policyv1.PodDisruptionBudget) },
}

// checkManifests decodes each document into the type that Kubernetes has for it; a field
// that the type does not have is an error.
func checkManifests(text []byte) error {
	n := 0
	for _, document := range bytes.Split(text, []byte("---\n")) {
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(document, &head); err != nil {
			return fmt.Errorf("%w in:\n%s", err, document)
		}
		if head.Kind == "" {
			continue // comments alone
		}
		make, known := kinds[head.APIVersion+" "+head.Kind]
		if !known {
			return fmt.Errorf("unknown kind %s %s", head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(document, make()); err != nil {
			return fmt.Errorf("%s: %w in:\n%s", head.Kind, err, document)
		}
		n++
	}
	if n < 10 {
		return fmt.Errorf("%d manifests", n)
	}
	return nil
}

// checkCompose loads the compose files as docker compose does.
func checkCompose(root string) error {
	files, err := filepath.Glob(filepath.Join(root, "deploy/compose/*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no compose files: %v", err)
	}
	for _, file := range files {
		details := types.ConfigDetails{WorkingDir: root, ConfigFiles: []types.ConfigFile{{Filename: file}}, Environment: types.Mapping{}}
		p, err := loader.LoadWithContext(context.Background(), details)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Printf("%s: %d services\n", file, len(p.Services))
	}
	return nil
}
