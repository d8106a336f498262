# Receiver.pm
#	  Starts, watches and stops a test/receiver.pl, which see for its paths.
#
# Synopsis:
#
#	my $receiver = WebhookEvents::Receiver->new;
#	my $url = $receiver->url('/status/503');
#	my @requests = $receiver->wait_for_requests(3, path => '/status/503');
#	is($requests[0]{headers}{'content-type'}, 'application/json');
#
# Needs nothing of PostgreSQL's, so that demos and benchmarks can use it too.

package WebhookEvents::Receiver;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Select;
use JSON::PP ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(time);

my $program = abs_path(dirname(__FILE__) . '/../../receiver.pl');

# How long a test waits for something that should happen soon: 180 seconds,
# longer in proportion where PostgreSQL's own tests are given more time.
sub default_timeout
{
	return $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;
}

# Starts a receiver and returns when it accepts connections.  Options:
#
#	listen			addresses (default ['127.0.0.1']); they share one port.
#					A leading part such as '127.0.0.2:8080' fixes the port.
#	tls				true: TLS with a certificate of its own making for
#					localhost, 127.0.0.1 and ::1
#	client_ca		file: asks clients for a certificate that this one vouches for
#	tls_version		the only version spoken, as IO::Socket::SSL names it
#	max_seconds		when it ends by itself (default 900)
#
sub new
{
	my ($class, %options) = @_;
	my $listen = delete $options{listen} // ['127.0.0.1'];
	my $self = bless {
		listen => ref $listen ? $listen : [$listen],
		tls => delete $options{tls},
		client_ca => delete $options{client_ca},
		tls_version => delete $options{tls_version},
		max_seconds => delete $options{max_seconds} // 900,
		owner => $$,
		directory => tempdir('receiver_XXXXXX', TMPDIR => 1, CLEANUP => 1),
		offset => 0,
		requests => [],
	}, $class;

	croak "unknown options: " . join(', ', sort keys %options) if %options;

	mkdir $self->_file('hold')
	  or croak "could not create directory for holds: $!";
	$self->_make_certificate if $self->{tls};
	$self->start;
	return $self;
}

# True if this perl can serve TLS and there is an openssl to make a certificate;
# a test that needs it skips otherwise.
sub tls_available
{
	return 0 unless eval { require IO::Socket::SSL; 1 };
	return scalar grep { -x "$_/openssl" } split /:/, $ENV{PATH};
}

sub port
{
	my $self = shift;

	return $self->{port};
}

# The URL of a path; by the first address, or by another name for the host.
sub url
{
	my ($self, $path, $host) = @_;

	$host //= $self->{host};
	return ($self->{tls} ? 'https' : 'http') . "://$host:$self->{port}"
	  . ($path // '/ok');
}

# The file with the certificate, for clients that should trust it.
sub certificate
{
	my $self = shift;

	return $self->_file('server.crt');
}

# The file with its key.
sub key
{
	my $self = shift;

	return $self->_file('server.key');
}

# The file with a line of JSON for each request.
sub log_file
{
	my $self = shift;

	return $self->_file('log');
}

# All requests so far in the order in which they were complete, as hashes with
# the keys of the log.
sub requests
{
	my $self = shift;

	return @{ $self->{requests} }
	  unless open my $log, '<:raw', $self->_file('log');
	seek $log, $self->{offset}, 0;
	while (my $line = <$log>)
	{
		# not written to its end yet
		last if $line !~ /\n\z/;

		$self->{offset} += length $line;
		push @{ $self->{requests} }, JSON::PP::decode_json($line);
	}
	close $log;
	return @{ $self->{requests} };
}

# Of all requests so far that have this header, by its name in lower case, its value and
# the time, as pairs.  Their lines are not decoded, which would take minutes of very many.
sub values_of
{
	my ($self, $header) = @_;
	my @pairs;

	open my $log, '<:raw', $self->_file('log') or return;
	while (my $line = <$log>)
	{
		push @pairs, [ $2, $1 ] if $line =~ /"at":([\d.]+),.*?"\Q$header\E":"([^"\\]*)"/;
	}
	close $log;
	return @pairs;
}

# Waits until at least so many requests have come and returns them (all that
# there are, which may be more).  Dies after the timeout.  Options:
#
#	path		counts only requests whose target is this string or matches
#				this regular expression
#	where		counts only requests for which this function, given the
#				request as $_ and as argument, is true
#	timeout		seconds (default: default_timeout)
#
sub wait_for_requests
{
	my ($self, $wanted, %options) = @_;
	my $path = delete $options{path};
	my $where = delete $options{where};
	my $timeout = delete $options{timeout} // default_timeout();
	my $until = time + $timeout;
	my $matches = sub {
		my $request = shift;

		if (defined $path)
		{
			my $target = $request->{target} // '';

			return 0
			  unless ref $path ? $target =~ $path : $target eq $path;
		}
		return 1 unless $where;
		local $_ = $request;
		return $where->($request);
	};
	my ($seen, @found) = (0);

	croak "unknown options: " . join(', ', sort keys %options) if %options;

	for (;;)
	{
		my $late = time >= $until;
		my $alive = $self->is_running;
		my @all = $self->requests;

		push @found, grep { $matches->($_) } @all[ $seen .. $#all ];
		$seen = @all;
		return @found if @found >= $wanted;

		if ($late || !$alive)
		{
			my $what = $late ? "timed out after $timeout s" : 'gave up';

			croak "$what waiting for $wanted requests"
			  . (defined $path ? " to $path" : '')
			  . ($where ? ' of a kind' : '')
			  . ": $seen came, "
			  . scalar(@found)
			  . " of them match\n"
			  . $self->describe;
		}
		select(undef, undef, undef, 0.02);
	}
}

# What a person wants to know when a test fails: is the receiver there, what
# did it say, which requests came last.
sub describe
{
	my $self = shift;
	my @requests = $self->requests;
	my $text = 'receiver ' . $self->url('');

	$text .=
	  $self->is_running ? " runs as process $self->{pid}\n"
	  : defined $self->{status}
	  ? sprintf(" has ended with wait status 0x%04x\n", $self->{status})
	  : " was not started\n";
	$text .= "its messages: " . $self->_slurp('stderr')
	  if -s $self->_file('stderr');
	$text .= "no requests\n" unless @requests;
	splice @requests, 0, -10;
	foreach my $request (@requests)
	{
		$text .= sprintf "request %d at %.3f, connection %d: %s %s => %s %s\n",
		  $request->{n}, $request->{at}, $request->{connection},
		  $request->{method} // '(malformed)', $request->{target} // '',
		  $request->{answer}, substr($request->{body} // '', 0, 200);
	}
	return $text;
}

# Lets the requests to /hold/NAME be answered, those to come included.
sub release
{
	my ($self, $name) = @_;

	open my $file, '>', $self->_file("hold/$name")
	  or croak "could not release \"$name\": $!";
	close $file;
	return;
}

# Holds requests to /hold/NAME again.
sub hold
{
	my ($self, $name) = @_;

	unlink $self->_file("hold/$name");
	return;
}

# Starts it again after stop(), on the same port and with the same log; only
# the counters of /flaky begin anew.
sub start
{
	my $self = shift;
	my $until = time + default_timeout();
	my ($reader, $writer, $said);

	return if $self->is_running;

	pipe($reader, $writer) or croak "could not create pipe: $!";
	open my $messages, '>>', $self->_file('stderr')
	  or croak "could not create file for messages: $!";

	$self->{pid} = _spawn(
		$writer,
		$messages,
		$^X,
		$program,
		'--log' => $self->_file('log'),
		'--hold-dir' => $self->_file('hold'),
		'--max-seconds' => $self->{max_seconds},
		'--parent' => $$,
		$self->{tls}
		? ( '--tls',
			'--cert' => $self->_file('server.crt'),
			'--key' => $self->_file('server.key'),
			$self->{client_ca} ? ('--client-ca' => $self->{client_ca}) : (),
			$self->{tls_version} ? ('--tls-version' => $self->{tls_version}) : ())
		: (),
		map { ('--listen' => $_) } $self->_addresses);
	close $writer;

	# One line for each address; if it dies, the pipe's end says so.
	$said = '';
	while (($said =~ tr/\n//) < @{ $self->{listen} })
	{
		my $left = $until - time;
		my $ready = $left > 0 && IO::Select->new($reader)->can_read($left);

		next if $ready && sysread($reader, $said, 4096, length $said);
		$self->stop;
		croak "receiver did not start: " . $self->_slurp('stderr');
	}
	$said =~ /\Alistening on (.*):(\d+)\n/
	  or croak "receiver says: $said";
	($self->{host}, $self->{port}) = ($1, $2);
	return;
}

# Ends the receiver.  Open connections end with it.
sub stop
{
	my $self = shift;
	my $until = time + default_timeout();

	return unless $self->{owner} == $$ && $self->is_running;

	kill 'TERM', $self->{pid};
	while ($self->is_running)
	{
		kill 'KILL', $self->{pid} if time > $until;
		select(undef, undef, undef, 0.005);
	}
	return;
}

sub restart
{
	my $self = shift;

	$self->stop;
	$self->start;
	return;
}

# False once the process has ended, whose status is then in {status}.
sub is_running
{
	my $self = shift;

	return 0 unless defined $self->{pid};
	if (waitpid($self->{pid}, WNOHANG) != 0)
	{
		$self->{status} = $?;
		$self->{pid} = undef;
		return 0;
	}
	return 1;
}

# The process that made the object ends the receiver; a copy of the object in a
# process forked off later doesn't.
sub DESTROY
{
	my $self = shift;

	local ($?, $!, $@);
	$self->stop if $self->{owner} == $$;
	return;
}

sub _file
{
	my ($self, $name) = @_;

	return "$self->{directory}/$name";
}

sub _slurp
{
	my ($self, $name) = @_;

	open my $file, '<', $self->_file($name) or return '';
	local $/;
	return scalar(<$file>) // '';
}

# Addresses with ports: any at first, the same one from then on.
sub _addresses
{
	my $self = shift;
	my $port = $self->{port} // 0;

	return map {
		my $address = $_;

		$address = "[$address]" if $address =~ /:.*:/ && $address !~ /^\[/;
		$address =~ /[^\]:]:\d+$|\]:\d+$/ ? $address : "$address:$port";
	} @{ $self->{listen} };
}

sub _make_certificate
{
	my $self = shift;

	open my $messages, '>>', $self->_file('openssl.log')
	  or croak "could not create file for messages: $!";

	my $pid = _spawn(
		$messages, $messages,
		'openssl', 'req', '-x509', '-nodes', '-days', '2',
		'-newkey' => 'ec',
		'-pkeyopt' => 'ec_paramgen_curve:prime256v1',
		'-subj' => '/CN=localhost',
		'-addext' =>
		  'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1',
		'-keyout' => $self->_file('server.key'),
		'-out' => $self->_file('server.crt'));

	waitpid $pid, 0;
	croak "could not make a certificate: " . $self->_slurp('openssl.log')
	  if $? != 0;
	return;
}

# Starts a program without a shell and returns its process id.  Descriptors
# rather than Perl's handles are redirected: PostgreSQL::Test ties those.
sub _spawn
{
	my ($stdout, $stderr, @command) = @_;
	my $pid = fork() // croak "could not fork: $!";

	return $pid if $pid;

	POSIX::dup2(fileno($stdout), 1);
	POSIX::dup2(fileno($stderr), 2);
	if (open my $null, '<', '/dev/null')
	{
		POSIX::dup2(fileno($null), 0);
	}
	{
		no warnings 'exec';
		exec { $command[0] } @command;
	}

	# Not exit(): the objects of the parent are not ours to destroy.
	POSIX::_exit(127);
}

1;
