#!/usr/bin/env bash
# Installs what Millrace needs and this machine lacks, and says so. Does nothing, quickly, when nothing is missing.
#
#   scripts/deps.sh build   Go
#   scripts/deps.sh run     Go, PostgreSQL 14 or later, Redis or Valkey
#   scripts/deps.sh test    the same, and a C compiler (Go's race detector needs one on Linux)
#
# Millrace runs servers of its own, below its data directory. It needs the programs only, so what is installed here is
# kept from starting services or making a database cluster of the system's own.
set -euo pipefail

mode=${1:-run}
case $mode in
build | run | test) ;;
*)
	echo "usage: scripts/deps.sh build|run|test" >&2
	exit 2
	;;
esac

say() { printf 'deps: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# A PostgreSQL installation is complete when initdb, postgres and pg_basebackup lie side by side.
is_postgres() { [[ -x $1/initdb && -x $1/postgres && -x $1/pg_basebackup ]]; }

has_postgres() {
	local dir initdb
	if initdb=$(command -v initdb); then
		is_postgres "$(dirname "$(readlink -f "$initdb")")" && return 0
	fi
	if has pg_config; then
		is_postgres "$(pg_config --bindir)" && return 0
	fi
	for dir in /usr/lib/postgresql/{1[4-9],[2-9][0-9]}/bin /usr/pgsql-*/bin {/opt/homebrew,/usr/local,/home/linuxbrew/.linuxbrew}/opt/postgresql@*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin; do
		is_postgres "$dir" && return 0
	done
	return 1
}

has_redis() {
	local dir
	has redis-server || has valkey-server && return 0
	for dir in /usr/sbin /usr/local/bin /opt/homebrew/bin /home/linuxbrew/.linuxbrew/bin; do
		[[ -x $dir/redis-server || -x $dir/valkey-server ]] && return 0
	done
	return 1
}

# The compiler needs the C library's headers beside it.
has_compiler() {
	local cc=${CC:-gcc}
	has "${cc%% *}" || return 1
	printf '#include <stdlib.h>\n' | $cc -E - >/dev/null 2>&1
}

has go || die "Go is not installed: install Go 1.26 or later from https://go.dev/dl/ and put it into PATH."
if [[ $mode == build ]]; then
	exit 0
fi

missing=()
has_postgres || missing+=(postgres)
has_redis || missing+=(redis)
if [[ $mode == test && $(uname -s) == Linux ]]; then
	has_compiler || missing+=(compiler)
fi
if ((${#missing[@]} == 0)); then
	exit 0
fi
lacks() { [[ " ${missing[*]} " == *" $1 "* ]]; }

install_with_brew() {
	local formulas=()
	if lacks postgres; then formulas+=(postgresql@16); fi
	if lacks redis; then formulas+=(redis); fi
	say "installing with Homebrew: ${formulas[*]} (no service is started)"
	brew install "${formulas[@]}"
}

# What keeps the packages from starting services: a policy that says no for the length of the installation, and
# PostgreSQL's own switch against the "main" cluster. Both are taken away again.
readonly policy=/usr/sbin/policy-rc.d
readonly switch=/etc/postgresql-common/createcluster.d/millrace.conf
made_policy= made_switch=

restore_system() {
	if [[ -n $made_policy ]]; then as_root rm -f "$policy"; fi
	if [[ -n $made_switch ]]; then as_root rm -f "$switch"; fi
}

as_root() {
	if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_with_apt() {
	local packages=()
	if lacks postgres; then packages+=(postgresql); fi
	if lacks compiler; then packages+=(gcc libc6-dev); fi
	if ((EUID != 0)) && ! has sudo; then
		if lacks redis; then packages+=(redis-server); fi
		die "not root, and there is no sudo. As root run: apt-get install ${packages[*]}"
	fi
	say "running apt-get update"
	as_root apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
	if lacks redis; then
		if apt-cache show redis-server >/dev/null 2>&1; then packages+=(redis-server); else packages+=(valkey-server); fi
	fi
	say "installing with apt-get: ${packages[*]} (programs only: no service is started, no cluster is made)"

	trap restore_system EXIT
	if [[ ! -e $policy ]]; then
		made_policy=yes
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	if lacks postgres && [[ ! -e $switch ]]; then
		made_switch=yes
		as_root mkdir -p "$(dirname "$switch")"
		printf 'create_main_cluster = false\n' | as_root tee "$switch" >/dev/null
	fi
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
	# The package enables its service for the next boot; nobody asked for that.
	if lacks redis && [[ -d /run/systemd/system ]]; then
		as_root systemctl disable --quiet redis-server.service 2>/dev/null ||
			as_root systemctl disable --quiet valkey-server.service 2>/dev/null || true
	fi
}

print_needs() {
	local needs=()
	if lacks postgres; then needs+=("PostgreSQL 14 or later (the server, with initdb and pg_basebackup)"); fi
	if lacks redis; then needs+=("Redis 6 or later, or Valkey"); fi
	if lacks compiler; then needs+=("gcc and the headers of the C library"); fi
	say "no package manager that is known here; please install:"
	printf '  - %s\n' "${needs[@]}" >&2
	exit 1
}

if has apt-get; then
	install_with_apt
elif has brew; then
	install_with_brew
else
	print_needs
fi

if lacks postgres; then has_postgres || die "PostgreSQL was installed but its server programs are not found."; fi
if lacks redis; then has_redis || die "Redis or Valkey was installed but its server is not found."; fi
if lacks compiler; then has_compiler || die "a C compiler was installed but does not work."; fi
say "done"
