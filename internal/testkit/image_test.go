package testkit

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// What comes and goes while a folder is copied is there as a whole or not at all.
func TestImageIsOfOneMoment(t *testing.T) {
	folder := t.TempDir()
	write := func(generation string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, generation), []byte(generation), 0o600); err != nil {
			t.Error(err)
		}
		next := filepath.Join(folder, "next")
		if err := os.WriteFile(next, []byte(generation), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(next, filepath.Join(folder, "CURRENT")); err != nil {
			t.Error(err)
		}
	}
	write("a")
	begun, stop := make(chan struct{}), make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		close(begun)
		for i := range 100 {
			names := [2]string{"a", "b"}
			write(names[(i+1)%2])
			if err := os.Remove(filepath.Join(folder, names[i%2])); err != nil {
				t.Error(err)
			}
		}
		<-stop
	})
	<-begun
	image := Image(t, folder)
	close(stop)
	writer.Wait()
	current, err := os.ReadFile(filepath.Join(image, "CURRENT"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(image, string(current))); err != nil || string(got) != string(current) {
		t.Errorf("CURRENT is %q, whose file is %q, %v", current, got, err)
	}
}
