// Package conformance is the Gateway API's official suite as a program of its own: what it checks is
// its module's, what it runs against and what is asked of its report is decided by the caller
// (tests/tests/conformance).
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
