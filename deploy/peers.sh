#!/usr/bin/env bash
# Installs what the tests talk to and look with, from Debian or Ubuntu packages:
#   dcmtk          storescu, storescp, echoscu, dcmdump: DICOM peers and readers this project did not write
#   orthanc        a PACS
#   orthanc-dicomweb  its plug-in that takes STOW-RS
#   libgdcm-tools  gdcmscu, another sender
#   dicom3tools    dciodvfy, which judges the objects that the example pipelines make
#   strace         shows that data is flushed before it is acknowledged
#   postgresql     the other database
#   etcd-server    what the Kubernetes API server of the tests keeps its objects in
#   openssl        its keys
# and names the toolchains that they need besides. Run it again at any time; it installs what is missing.
set -euo pipefail

declare -A package_of=(
  [storescu]=dcmtk
  [Orthanc]=orthanc
  [gdcmscu]=libgdcm-tools
  [dciodvfy]=dicom3tools
  [strace]=strace
  [etcd]=etcd-server
  [openssl]=openssl
)

missing=()
for program in "${!package_of[@]}"; do
  command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("${package_of[$program]}")
done

# Debian keeps the server's programs off PATH
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)

compgen -G "/usr/*/orthanc/plugins/libOrthancDicomWeb.so" >/dev/null || missing+=(orthanc-dicomweb)

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "install with this system's package manager: ${missing[*]}" >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "run as root: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  # no recommended packages: Orthanc would bring its databases. No service is to be started by an installation: a PACS
  # on its default ports, open to everybody.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# The Temporal server: found, downloaded by the SDK, or built. Only the last needs Go.
if ! command -v temporal >/dev/null; then
  if command -v go >/dev/null; then
    go_version=$(go env GOVERSION)
    minor=${go_version#go1.}
    minor=${minor%%.*}
    [ "${minor:-0}" -ge 25 ] || echo "note: $go_version cannot build the Temporal server, 1.25 or newer can" >&2
  else
    echo "note: no 'temporal' on PATH and no Go; the tests depend on the SDK's download of the server" >&2
  fi
fi

# dicom-rs's programs are built on first use. Debian's cargo is too old for them.
command -v cargo >/dev/null || echo "note: no cargo; the tests with dicom-rs's sender need it: https://rustup.rs" >&2
# The Kubernetes API server, Helm and the reader of compose files are built for the tests, once: ten minutes together.
command -v go >/dev/null || echo "note: no Go, so no Kubernetes API server and no Helm for the tests of the chart" >&2
