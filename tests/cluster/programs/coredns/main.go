// CoreDNS with the plugins that coredns.yaml names. All of them would bring the clients of three clouds.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// A query meets them in this order, that of CoreDNS's own plugin.cfg.
	dnsserver.Directives = []string{"ready", "errors", "loadbalance", "cache", "kubernetes"}
	coremain.Run()
}
