// The tool that writes the bill of materials, in a module of its own: what it needs is no
// part of DKV.
module github.com/dkvdb/dkv/tools/sbom

go 1.26.0

require github.com/CycloneDX/cyclonedx-gomod v1.7.0
