# Makefile
#
# "make" and "make install" are plain PGXS, in this directory or, with VPATH, in
# another one.  "make test" and "make demo" need no installation, no running
# server and no write access outside tmp_check/: they stage a copy of the server
# next to the freshly built module and work on that.  What they need of the
# system they name, and as root on Debian or Ubuntu they install it after saying
# so; NO_INSTALL=1 refuses.  As root they run the server as $(TESTUSER), since
# initdb refuses root.
#
#   make test            all tests                   make check-all   and all checks
#   make test-regress    pg_regress                  make lint        clang-tidy, cppcheck
#   make test-isolation  isolation specs             make coverage    lines that tests reach
#   make test-tap PROVE_TESTS="test/t/020_delivery.pl"
#   make installcheck    on a running server         make fuzz        random input, pure rooms
#   make test-majors     on other versions           make indent      as PostgreSQL indents
#   make bench PARTS=drain                           make demo        a server at work
#   make chaos MINUTES=1 SEED=7                      everything at once, with kills
#   make valgrind                                    reads and writes beside memory
#   make dist, make deb  a tarball, Debian packages  make pages       generated documentation

EXTENSION = webhook_events
MODULE_big = webhook_events
PGFILEDESC = "webhook_events - typed events delivered to webhooks"

PG_CONFIG ?= pg_config
CURL_CONFIG ?= curl-config
PERL ?= perl
TESTUSER ?= postgres
here := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
# It says not to install packages; PGXS would take it for itself, and for another thing.
no_install := $(NO_INSTALL)
override undefine NO_INSTALL
setup = NO_INSTALL=$(no_install) PG_CONFIG=$(PG_CONFIG) CURL_CONFIG=$(CURL_CONFIG) TESTUSER=$(TESTUSER) \
	$(here)/test/setup.sh

# Where PostgreSQL's or libcurl's development files are missing, make can't even
# read PGXS: it has them installed, or says how, and starts again.
ifeq ($(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))$(MAKE_RESTARTS),)
.DEFAULT_GOAL := all
.PHONY: all
all $(filter-out all,$(MAKECMDGOALS)):
	@$(setup) $(if $(filter check-all,$@),--checks,$(if $(filter setup test% demo bench chaos coverage,$@),,--say-only))
	@$(MAKE) --no-print-directory MAKE_RESTARTS=1 $@
else

sources = $(patsubst $(here)/%,%,$(wildcard $(here)/src/*.c $(here)/src/*/*.c))
OBJS = $(sources:.c=.o)
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(here)/$(EXTENSION).control)

# The script of this version is put together from its chapters, in their order;
# there is one for each version that can be updated, of what differs in between.
chapters = $(sort $(wildcard $(here)/sql/[0-9][0-9]_*.sql))
script = sql/$(EXTENSION)--$(EXTVERSION).sql
updates = $(patsubst $(here)/sql/update/%.sql,sql/$(EXTENSION)--%.sql,\
	$(wildcard $(here)/sql/update/*--$(EXTVERSION).sql))
DATA = $(filter-out $(script) $(updates),\
	$(patsubst $(here)/%,%,$(wildcard $(here)/sql/$(EXTENSION)--*.sql)))
DATA_built = $(script) $(updates)
ifneq ($(wildcard $(here)/src/doc/*.md),)
DOCS = $(patsubst $(here)/%,%,$(wildcard $(here)/src/doc/*.md $(here)/src/doc/monitoring/*))
endif

PG_CPPFLAGS = -I$(here)/src -DEXTENSION_VERSION='"$(EXTVERSION)"' \
	-isystem $(shell $(PG_CONFIG) --includedir-server) $(shell $(CURL_CONFIG) --cflags)
PG_CFLAGS = -Wall -Wextra -Werror
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs)

# "make clean; make test SANITIZE=undefined" ends a process where C does not say
# what happens; COVERAGE=1 has it count its lines.
ifdef SANITIZE
PG_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-sanitize=alignment
SHLIB_LINK += -fsanitize=$(SANITIZE)
endif
ifdef COVERAGE
PG_CFLAGS += --coverage -fprofile-update=atomic
SHLIB_LINK += --coverage
endif

REGRESS = $(patsubst $(here)/test/sql/%.sql,%,$(sort $(wildcard $(here)/test/sql/*.sql)))
REGRESS_OPTS = --inputdir=$(here)/test
ISOLATION = $(patsubst $(here)/test/specs/%.spec,%,$(sort $(wildcard $(here)/test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(here)/test --outputdir=.
TAP_TESTS = 1
NO_INSTALLCHECK = 1
PROVE_TESTS ?= test/t/*.pl
# So many files at a time; no test counts on being alone.
TAP_JOBS ?= 2

EXTRA_CLEAN = tmp_check

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Pages of other extensions have the same names.  PGXS looks for them, when they are to be
# removed, where they lie here.
docmoduledir := extension/$(EXTENSION)
.PHONY: uninstall-pages
uninstall: uninstall-pages
uninstall-pages:
	rm -rf '$(DESTDIR)$(docdir)/$(docmoduledir)'

# A build elsewhere needs the folders that the sources are in, and sources without
# what was built among them: make would take that for its own.
ifneq ($(here),$(CURDIR))
$(shell mkdir -p sql $(sort $(dir $(OBJS))))
ifneq ($(wildcard $(here)/src/*.o $(here)/$(script)),)
$(error $(here) holds a build of its own; run "make clean" there first)
endif
endif

$(OBJS): $(wildcard $(here)/src/*.h $(here)/src/*/*.h) $(here)/$(EXTENSION).control

$(script): $(chapters) $(here)/$(EXTENSION).control
	@{ echo '/* $(notdir $@): made from sql/[0-9]*.sql by make */'; echo; cat $(chapters); } > $@

$(updates): sql/$(EXTENSION)--%--$(EXTVERSION).sql: $(here)/sql/update.pl \
		$(here)/sql/$(EXTENSION)--%.sql $(script) $(here)/sql/update/%--$(EXTVERSION).sql
	@$(PERL) $^ > $@ || { rm -f $@; exit 1; }

tmp := $(CURDIR)/tmp_check
root := $(tmp)/root
drivers := $(dir $(PGXS))../test
as_user := $(if $(filter 0,$(shell id -u)),runuser -u $(TESTUSER) --)
env := PATH="$(root)$(bindir):$$PATH" PERL5LIB=$(here)/test/lib
temp_instance = --bindir='$(root)$(bindir)' --temp-instance=$(tmp)/$@/data \
	--temp-config=$(here)/test/regress.conf --no-locale --encoding=UTF8 \
	--dbname=regression
log_of = > $(tmp)/$@.log 2>&1; status=$$?; cat $(tmp)/$@.log; exit $$status

.PHONY: setup ready test temp-install test-regress test-isolation test-tap test-majors chroots \
	installcheck demo bench chaos valgrind fuzz indent lint coverage check-all dist deb pages

setup:
	@$(setup)

# One after the other, also with -j.
ready:
	@$(setup)
	@$(MAKE) -s --no-print-directory temp-install

# All three drivers run whatever the others found; the summary counts what
# their logs hold and fails unless every test passed.
test: ready
	-@$(MAKE) -s --no-print-directory test-regress
	$(if $(ISOLATION),-@$(MAKE) -s --no-print-directory test-isolation)
	-@$(MAKE) -s --no-print-directory test-tap
	@$(PERL) $(here)/test/summary.pl $(tmp)/test-regress.log $(tmp)/test-tap.log \
		$(if $(ISOLATION),$(tmp)/test-isolation.log)

# Only postgres, initdb and pg_ctl look for their share directory relative to
# where they really lie, so only these are copied; the rest are links.  Nothing is
# done if what is staged is what was built last.
temp-install: all
	@$(MAKE) -s --no-print-directory $(root)/.staged

$(root)/.staged: $(shlib) $(DATA_built) $(addprefix $(here)/,$(DATA) $(EXTENSION).control \
		test/plans/plans.c test/calls/calls.c)
	@rm -rf $(tmp)/root $(tmp)/test-*
	@$(MKDIR_P) $(foreach d,$(bindir) $(pkglibdir) $(datadir),'$(root)$(d)')
	@for d in $(bindir) $(pkglibdir) $(datadir); do cp -rs $$d/. $(root)$$d/; done
	@for p in postgres initdb pg_ctl; do \
		cp --remove-destination $(bindir)/$$p $(root)$(bindir)/; done
	@$(MAKE) -s install DESTDIR=$(root)
	@for m in plans calls; do $(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_SL) -shared \
		-o $(root)$(pkglibdir)/$$m.so $(here)/test/$$m/$$m.c || exit 1; done
	@$(MKDIR_P) $(foreach d,regress isolation tap demo bench chaos,$(tmp)/test-$(d))
	@for d in test-regress test-isolation; do \
		ln -s $(here)/expected $(here)/test/sql $(here)/test/specs $(tmp)/$$d/; done
	@$(if $(as_user),chown -R $(TESTUSER) $(tmp)/test-*)
	@touch $@

test-regress: temp-install
	@cd $(tmp)/$@ && $(as_user) env $(env) $(drivers)/regress/pg_regress \
		$(temp_instance) $(REGRESS_OPTS) $(REGRESS) $(log_of)

test-isolation: temp-install
	@cd $(tmp)/$@ && $(as_user) env $(env) $(drivers)/isolation/pg_isolation_regress \
		$(temp_instance) $(ISOLATION_OPTS) $(ISOLATION) $(log_of)

# What PostgreSQL's test library wants to know, for a directory under tmp_check.
tap_env = $(env):$(drivers)/perl TESTDIR=$(tmp)/$(1) TESTDATADIR=$(tmp)/$(1)/data \
	TESTLOGDIR=$(tmp)/$(1)/log PG_REGRESS=$(drivers)/regress/pg_regress \
	PGPORT=6$(DEF_PGPORT)

# Servers begin as copies of one; see new_node().
test-tap: temp-install
	@rm -rf $(addprefix $(tmp)/$@/,tmp_check data log)
	@[ -d $(tmp)/$@/template ] || $(as_user) env $(env) \
		initdb -N -A trust --encoding=UTF8 --no-locale -D $(tmp)/$@/template > $(tmp)/template.log 2>&1 || \
		{ cat $(tmp)/template.log; exit 1; }
	@cd $(here) && $(as_user) env $(call tap_env,$@) INITDB_TEMPLATE=$(tmp)/$@/template $(PROVE) -j$(TAP_JOBS) $(PROVE_FLAGS) $(PROVE_TESTS) $(log_of)

# On a server that runs and has the extension installed (PGHOST, PGPORT, ...).
installcheck:
	@$(here)/test/installcheck.sh $(drivers)/regress/pg_regress '$(bindir)' $(REGRESS)

# Shows the extension at work; needs nothing installed and leaves a report behind.
demo: ready
	@$(as_user) env $(env) $(PERL) $(here)/test/demo/demo.pl $(tmp)/test-demo

# The suite on other versions of PostgreSQL, in chroots that are kept.
MAJORS ?= $(CURDIR)/.majors
test-majors:
	@$(here)/test/majors.sh $(MAJORS) $(SUITES)

# Makes them, and no more.
chroots:
	@$(here)/test/majors.sh --chroots $(MAJORS) $(SUITES)

# Figures, in $(tmp)/test-bench/RESULTS.md; PARTS="heartbeat drain" measures some;
# BENCH_FLAGS: see test/bench/bench.pl.
MODE ?= quick
bench: ready
	@$(as_user) env $(call tap_env,test-$@) \
		COMMIT=$$(git -C $(here) rev-parse --short HEAD 2>/dev/null) sh -c 'cd $(tmp)/test-bench && \
		exec $(PERL) -I$(here)/test/lib $(here)/test/bench/bench.pl --mode=$(MODE) $(BENCH_FLAGS) $(PARTS)'

# Everything at once for so many MINUTES, then a reckoning; SEED repeats a run's decisions.
MINUTES ?= 10
chaos: ready
	@rm -rf $(tmp)/test-$@/tmp_check
	@cd $(here) && $(as_user) env $(call tap_env,test-$@) MINUTES=$(MINUTES) SEED=$(SEED) \
		$(PROVE) $(PROVE_FLAGS) test/chaos/faults.pl test/chaos/chaos.pl 2>&1 | tee $(tmp)/$@.log; \
		$(PERL) $(here)/test/summary.pl $(tmp)/$@.log

# The regression tests, and VALGRIND_TESTS, on a server under valgrind: half an hour.
VALGRIND_TESTS ?= test/t/054_random_sql.pl
valgrind: temp-install
	@PG_TEST_TIMEOUT_DEFAULT=3600 PGCTLTIMEOUT=3600 $(here)/test/valgrind.sh '$(root)$(bindir)' $(tmp)/valgrind \
		sh -c '$(MAKE) -s --no-print-directory test-regress; \
			$(if $(VALGRIND_TESTS),$(MAKE) -s --no-print-directory test-tap PROVE_TESTS="$(VALGRIND_TESTS)")'

# Random input for the pure rooms, for so many seconds.
SECONDS ?= 60
fuzz:
	@PG_CONFIG=$(PG_CONFIG) $(here)/test/fuzz/run.sh $(tmp)/test-fuzz $(SECONDS)

# Indents the sources as PostgreSQL's are; "test/indent.sh --check" only looks.
indent:
	@PG_CONFIG=$(PG_CONFIG) $(here)/test/indent.sh

# What clang-tidy and cppcheck see; agreed exceptions stand in test/lint.
lint:
	@PG_CONFIG=$(PG_CONFIG) $(here)/test/lint/lint.sh $(sources) -- $(CPPFLAGS)

# How much of the code the tests reach, in a copy that is built for it.
coverage: setup
	@$(here)/test/coverage.sh $(tmp)/coverage

check-all:
	@$(setup) --checks
	@$(MAKE) -s --no-print-directory test
	@$(here)/test/rooms.sh
	@if command -v pg_bsd_indent > /dev/null; then $(here)/test/indent.sh --check; \
		else echo "indent: SKIPPED, pg_bsd_indent is missing"; fi
	@$(MAKE) -s --no-print-directory lint
	@$(MAKE) -s --no-print-directory fuzz
	@$(MAKE) -s --no-print-directory test-majors

# The pages that are made from the catalog.
pages: temp-install
	@rm -rf $(tmp)/pages && $(MKDIR_P) $(tmp)/pages && chmod 777 $(tmp)/pages
	-@PAGES=$(tmp)/pages $(MAKE) -s --no-print-directory test-tap PROVE_TESTS=test/t/044_pages.pl > /dev/null 2>&1
	@cp $(tmp)/pages/*.md $(here)/src/doc/ && ls $(tmp)/pages

# A tarball that builds, with PGXN's META.json, and Debian packages for the
# versions that are installed here.
dist deb: $(script)
	@PG_CONFIG=$(PG_CONFIG) $(here)/test/package/$@.sh $(EXTVERSION) $(tmp)/$@

endif
