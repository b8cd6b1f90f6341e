package bench

import (
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }
