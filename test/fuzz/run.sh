#!/bin/sh
#
# run.sh DIRECTORY SECONDS
#	  Builds the fuzzer in a directory and runs it on the kept corpus (corpus.txt,
#	  inputs in base64), with AddressSanitizer and UndefinedBehaviorSanitizer.
#	  Needs clang.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
src=$here/../../src
export CORPUS="$1/corpus"
mkdir -p "$CORPUS"
perl -MMIME::Base64 -ne 'open(my $file, ">:raw", "$ENV{CORPUS}/$.") or die $!;
	print $file decode_base64($_)' "$here/corpus.txt"
pkglib=$(${PG_CONFIG:-pg_config} --pkglibdir)

${CLANG:-clang} -g -O1 -D_GNU_SOURCE -fwrapv -fno-strict-aliasing \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	-I"$src" -I"$here" -isystem "$(${PG_CONFIG:-pg_config} --includedir-server)" \
	"$here/fuzz.c" "$here/stubs.c" \
	"$src"/rules/template.c "$src"/rules/template_render.c "$src"/rules/json_scan.c "$src"/rules/headers.c \
	"$src"/rules/url.c "$src"/rules/address.c "$src"/rules/ports.c \
	"$src"/rules/signature.c "$src"/rules/ids.c \
	-Wl,--allow-multiple-definition \
	"$pkglib/libpgcommon_shlib.a" "$pkglib/libpgport_shlib.a" \
	-lcurl -lcrypto -lm -o "$1/fuzz"
exec "$1/fuzz" -max_total_time="$2" -max_len=4096 -print_final_stats=1 \
	-artifact_prefix="$1/" "$CORPUS"
