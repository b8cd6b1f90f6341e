package bench

import (
	"fmt"
	"path/filepath"
)

// checkChart says what is wrong with the name of a chart's file.
func checkChart(file string) error {
	switch filepath.Ext(file) {
	case ".svg", ".png":
		return nil
	}
	if file == "" {
		return nil
	}
	return fmt.Errorf("a chart is an .svg or a .png, not %q", filepath.Base(file))
}
