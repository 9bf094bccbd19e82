# The images of a Workshops-on-Demand backend. `wodctl build` sets the variables: tags made of what goes into each
# image, the site's mirror and certificate authorities. By hand it is:
#   docker buildx bake -f images/docker-bake.hcl hub

variable "TAG_API_DB" { default = "latest" }
variable "TAG_BASE" { default = "latest" }
variable "TAG_COMPILER" { default = "latest" }
variable "TAG_DB" { default = "latest" }
variable "TAG_DESK" { default = "latest" }
variable "TAG_DIRECTORY" { default = "latest" }
variable "TAG_PEBBLE" { default = "latest" }
variable "TAG_DOORMAN" { default = "latest" }
variable "TAG_EXPORT" { default = "latest" }
variable "TAG_FAIL2BAN" { default = "latest" }
variable "TAG_FETCH" { default = "latest" }
variable "TAG_FIREWALL" { default = "latest" }
variable "TAG_GATE" { default = "latest" }
variable "TAG_HUB" { default = "latest" }
variable "TAG_KERNEL" { default = "latest" }
variable "TAG_LAB" { default = "latest" }
variable "TAG_MAIL" { default = "latest" }
variable "TAG_PROXY" { default = "latest" }
variable "TAG_TOOLCHAIN" { default = "latest" }
variable "TAG_WORKER" { default = "latest" }
variable "TAG_BARE_HOST" { default = "latest" }
variable "TAG_BROWSER" { default = "latest" }

# What `base` is made of: an image of a registry, or a tree of Debian packages that was imported into the engine.
variable "ROOTFS" { default = "debian:trixie-slim" }

# Files with the site's certificate authorities and Debian mirror (deb822; empty: the mirror that ROOTFS knows).
# They are secrets of the build and stay in no layer.
variable "CA_BUNDLE" { default = "/etc/ssl/certs/ca-certificates.crt" }
variable "APT_SOURCES" { default = "" }

# The site's index of Python packages and its web proxies. BuildKit keeps the proxies out of the images.
variable "PIP_INDEX_URL" { default = "" }
variable "HTTP_PROXY" { default = "" }
variable "HTTPS_PROXY" { default = "" }
variable "NO_PROXY" { default = "" }

group "default" {
  targets = [
    "base", "api-db", "compiler", "db", "doorman", "export", "fail2ban", "fetch", "firewall", "gate", "hub", "lab", "mail",
    "proxy", "worker"
  ]
}

target "site" {
  context = "."
  args = {
    PIP_INDEX_URL = PIP_INDEX_URL != "" ? PIP_INDEX_URL : null
    HTTP_PROXY    = HTTP_PROXY != "" ? HTTP_PROXY : null
    HTTPS_PROXY   = HTTPS_PROXY != "" ? HTTPS_PROXY : null
    NO_PROXY      = NO_PROXY != "" ? NO_PROXY : null
  }
  secret = concat(["id=ca,src=${CA_BUNDLE}"], APT_SOURCES != "" ? ["id=apt,src=${APT_SOURCES}"] : [])
}

target "image" {
  inherits = ["site"]
  contexts = { base = "target:base" }
  output   = ["type=docker"]
}

# Images with a Python environment of their own.
target "python-image" {
  inherits = ["image"]
  contexts = { toolchain = "target:toolchain" }
}

target "base" {
  inherits   = ["site"]
  dockerfile = "images/base/Dockerfile"
  target     = "base"
  contexts   = { rootfs = "docker-image://${ROOTFS}" }
  tags       = ["wod/base:${TAG_BASE}"]
  output     = ["type=docker"]
}

target "toolchain" {
  inherits   = ["site"]
  dockerfile = "images/base/Dockerfile"
  target     = "toolchain"
  contexts   = { rootfs = "docker-image://${ROOTFS}" }
  tags       = ["wod/toolchain:${TAG_TOOLCHAIN}"]
}

target "api-db" {
  inherits   = ["python-image"]
  dockerfile = "images/api-db/Dockerfile"
  tags       = ["wod/api-db:${TAG_API_DB}"]
}

target "compiler" {
  inherits   = ["image"]
  dockerfile = "images/compiler/Dockerfile"
  tags       = ["wod/compiler:${TAG_COMPILER}"]
}

target "db" {
  inherits   = ["image"]
  dockerfile = "images/db/Dockerfile"
  tags       = ["wod/db:${TAG_DB}"]
}

target "doorman" {
  inherits   = ["image"]
  dockerfile = "images/doorman/Dockerfile"
  tags       = ["wod/doorman:${TAG_DOORMAN}"]
}

target "export" {
  inherits   = ["python-image"]
  dockerfile = "images/export/Dockerfile"
  tags       = ["wod/export:${TAG_EXPORT}"]
}

target "fail2ban" {
  inherits   = ["image"]
  dockerfile = "images/fail2ban/Dockerfile"
  tags       = ["wod/fail2ban:${TAG_FAIL2BAN}"]
}

target "fetch" {
  inherits   = ["image"]
  dockerfile = "images/fetch/Dockerfile"
  tags       = ["wod/fetch:${TAG_FETCH}"]
}

target "firewall" {
  inherits   = ["image"]
  dockerfile = "images/firewall/Dockerfile"
  tags       = ["wod/firewall:${TAG_FIREWALL}"]
}

target "gate" {
  inherits   = ["python-image"]
  dockerfile = "images/gate/Dockerfile"
  tags       = ["wod/gate:${TAG_GATE}"]
}

target "hub" {
  inherits   = ["python-image"]
  dockerfile = "images/hub/Dockerfile"
  tags       = ["wod/hub:${TAG_HUB}"]
}

target "lab" {
  inherits   = ["python-image"]
  dockerfile = "images/lab/Dockerfile"
  tags       = ["wod/lab:${TAG_LAB}"]
}

target "mail" {
  inherits   = ["image"]
  dockerfile = "images/mail/Dockerfile"
  tags       = ["wod/mail:${TAG_MAIL}"]
}

target "proxy" {
  inherits   = ["python-image"]
  dockerfile = "images/proxy/Dockerfile"
  tags       = ["wod/proxy:${TAG_PROXY}"]
}

target "worker" {
  inherits   = ["python-image"]
  dockerfile = "images/worker/Dockerfile"
  tags       = ["wod/worker:${TAG_WORKER}"]
}

# For authors, who have no use for most of the others: `wodctl author` builds it.
target "desk" {
  inherits   = ["image"]
  contexts   = { lab = "target:lab" }
  dockerfile = "images/desk/Dockerfile"
  tags       = ["wod/desk:${TAG_DESK}"]
}

# For the tests only, hence not in the group.
target "bare-host" {
  inherits   = ["python-image"]
  dockerfile = "images/bare-host/Dockerfile"
  tags       = ["wod/bare-host:${TAG_BARE_HOST}"]
}

target "browser" {
  inherits   = ["image"]
  dockerfile = "images/browser/Dockerfile"
  tags       = ["wod/browser:${TAG_BROWSER}"]
}

target "kernel" {
  inherits   = ["image"]
  dockerfile = "images/kernel/Dockerfile"
  tags       = ["wod/kernel:${TAG_KERNEL}"]
}

target "pebble" {
  inherits   = ["image"]
  dockerfile = "images/pebble/Dockerfile"
  tags       = ["wod/pebble:${TAG_PEBBLE}"]
}

target "directory" {
  inherits   = ["image"]
  dockerfile = "images/directory/Dockerfile"
  tags       = ["wod/directory:${TAG_DIRECTORY}"]
}
