# Makefile
#
# "make" and "make install" are plain PGXS.  "make test" and "make demo" need
# no installation, no running server and no write access outside tmp_check/:
# they stage a copy of the server next to the freshly built module and work on
# that.  As root they run the server as $(TESTUSER), since initdb refuses root.

EXTENSION = webhook_events
MODULE_big = webhook_events
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)
# The script of this version is put together from its chapters, in their order.
chapters = $(sort $(wildcard sql/[0-9][0-9]_*.sql))
script = sql/$(EXTENSION)--$(EXTVERSION).sql
# A script for each version that can be updated, of what differs in between.
updates = $(patsubst sql/update/%.sql,sql/$(EXTENSION)--%.sql,$(wildcard sql/update/*--$(EXTVERSION).sql))
DATA = $(filter-out $(script) $(updates),$(wildcard sql/$(EXTENSION)--*.sql))
DATA_built = $(script) $(updates)
PGFILEDESC = "webhook_events - typed events delivered to webhooks"

PG_CONFIG ?= pg_config
CURL_CONFIG ?= curl-config
PG_CPPFLAGS = -Isrc -DEXTENSION_VERSION='"$(EXTVERSION)"' -isystem $(shell $(PG_CONFIG) --includedir-server) \
	$(shell $(CURL_CONFIG) --cflags)
PG_CFLAGS = -Wall -Wextra -Werror
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs)

# "make clean; make test SANITIZE=undefined" ends a process where C does not say
# what happens.
ifdef SANITIZE
PG_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-sanitize=alignment
SHLIB_LINK += -fsanitize=$(SANITIZE)
endif

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=$(CURDIR)/test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(CURDIR)/test --outputdir=.
TAP_TESTS = 1
PROVE_TESTS ?= test/t/*.pl

TESTUSER ?= postgres
EXTRA_CLEAN = tmp_check

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard src/*.h src/*/*.h) $(EXTENSION).control

$(script): $(chapters) $(EXTENSION).control
	@{ echo '/* $(notdir $@): made from sql/[0-9]*.sql by make */'; echo; cat $(chapters); } > $@

sql/$(EXTENSION)--%--$(EXTVERSION).sql: sql/update.pl sql/$(EXTENSION)--%.sql $(script) sql/update/%--$(EXTVERSION).sql
	@$(PERL) sql/update.pl $(wordlist 2,4,$^) > $@ || { rm -f $@; exit 1; }

tmp := $(CURDIR)/tmp_check
root := $(tmp)/root
drivers := $(dir $(PGXS))../test
as_user := $(if $(filter 0,$(shell id -u)),runuser -u $(TESTUSER) --)
env := PATH="$(root)$(bindir):$$PATH" PERL5LIB=$(CURDIR)/test/lib
temp_instance = --bindir='$(root)$(bindir)' --temp-instance=$(tmp)/$@/data \
	--temp-config=$(CURDIR)/test/regress.conf --no-locale --encoding=UTF8 \
	--dbname=regression
log_of = > $(tmp)/$@.log 2>&1; status=$$?; cat $(tmp)/$@.log; exit $$status

.PHONY: test temp-install test-regress test-isolation test-tap test-majors demo bench fuzz indent
.NOTPARALLEL: test

# All three drivers run whatever the others found; the summary counts what
# their logs hold and fails unless every test passed.
test: temp-install
	-@$(MAKE) -s --no-print-directory test-regress
	$(if $(ISOLATION),-@$(MAKE) -s --no-print-directory test-isolation)
	-@$(MAKE) -s --no-print-directory test-tap
	@$(PERL) test/summary.pl $(tmp)/test-regress.log $(tmp)/test-tap.log \
		$(if $(ISOLATION),$(tmp)/test-isolation.log)

# Only postgres, initdb and pg_ctl look for their share directory relative to
# where they really lie, so only these are copied; the rest are links.
temp-install: all
	@rm -rf $(tmp)
	@$(MKDIR_P) $(foreach d,$(bindir) $(pkglibdir) $(datadir),'$(root)$(d)')
	@for d in $(bindir) $(pkglibdir) $(datadir); do cp -rs $$d/. $(root)$$d/; done
	@for p in postgres initdb pg_ctl; do \
		cp --remove-destination $(bindir)/$$p $(root)$(bindir)/; done
	@$(MAKE) -s install DESTDIR=$(root)
	@$(MKDIR_P) $(foreach d,regress isolation tap demo bench,$(tmp)/test-$(d))
	@for d in test-regress test-isolation; do \
		ln -s $(CURDIR)/expected $(CURDIR)/test/sql $(CURDIR)/test/specs $(tmp)/$$d/; done
	@$(if $(as_user),chown -R $(TESTUSER) $(tmp)/test-*)

staged = $(if $(wildcard $(root)$(bindir)/postgres),,temp-install)

test-regress: $(staged)
	@cd $(tmp)/$@ && $(as_user) env $(env) $(drivers)/regress/pg_regress \
		$(temp_instance) $(REGRESS_OPTS) $(REGRESS) $(log_of)

test-isolation: $(staged)
	@cd $(tmp)/$@ && $(as_user) env $(env) $(drivers)/isolation/pg_isolation_regress \
		$(temp_instance) $(ISOLATION_OPTS) $(ISOLATION) $(log_of)

# What PostgreSQL's test library wants to know, for a directory under tmp_check.
tap_env = $(env):$(drivers)/perl TESTDIR=$(tmp)/$(1) TESTDATADIR=$(tmp)/$(1)/data \
	TESTLOGDIR=$(tmp)/$(1)/log PG_REGRESS=$(drivers)/regress/pg_regress \
	PGPORT=6$(DEF_PGPORT)

test-tap: $(staged)
	@rm -rf $(tmp)/$@/tmp_check
	@$(as_user) env $(call tap_env,$@) $(PROVE) $(PROVE_FLAGS) $(PROVE_TESTS) $(log_of)

# Shows the extension at work; needs nothing installed and leaves nothing behind.
demo: temp-install
	@$(as_user) env $(env) $(PERL) test/demo/demo.pl $(tmp)/test-demo

# The suite on other versions of PostgreSQL, in chroots that are kept.
MAJORS ?= $(CURDIR)/.majors
test-majors:
	@test/majors.sh $(MAJORS)

# Figures, in $(tmp)/test-bench/RESULTS.md; PARTS="heartbeat drain" measures some;
# BENCH_FLAGS: see test/bench/bench.pl.
MODE ?= quick
bench: temp-install
	@$(as_user) env $(call tap_env,test-$@) \
		COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) sh -c 'cd $(tmp)/test-bench && \
		exec $(PERL) -I$(CURDIR)/test/lib $(CURDIR)/test/bench/bench.pl --mode=$(MODE) $(BENCH_FLAGS) $(PARTS)'

# Random input for the pure rooms, for so many seconds.
SECONDS ?= 60
fuzz:
	@PG_CONFIG=$(PG_CONFIG) test/fuzz/run.sh $(tmp)/test-fuzz $(SECONDS)

# Indents the sources as PostgreSQL's are; "test/indent.sh --check" only looks.
indent:
	@PG_CONFIG=$(PG_CONFIG) test/indent.sh
