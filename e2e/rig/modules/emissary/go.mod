module heliostat.dev/e2e/rig/emissary

go 1.26.0

require github.com/emissary-ingress/emissary/v3 v3.10.0
