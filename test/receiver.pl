#!/usr/bin/perl
#
# receiver.pl
#	  An HTTP/1.1 server for tests: logs every request, misbehaves on demand.
#
# Usage: receiver.pl [--listen ADDRESS:PORT]... [--port-file FILE]
#			[--log FILE] [--hold-dir DIR] [--tls --cert FILE --key FILE
#			[--client-ca FILE] [--tls-version VERSION]]
#			[--max-seconds N] [--parent PID]
#
# One thread, one select() loop, keep-alive, core modules only (TLS needs
# IO::Socket::SSL).  Port 0 means any.  "listening on ADDRESS:PORT" appears on
# stdout, one line per address, when connections are accepted.  The process
# ends at SIGTERM, after --max-seconds (900), or when its parent is gone.
#
# What a request is answered follows from its path alone, so that tests share
# no state with the receiver:
#
#	/ok					200, "ok"
#	/status/NNN			that status; 1xx is sent and no final answer follows
#	/flaky/NAME/K		500 to the first K requests of NAME, then 200
#	/random/SEED/MS		200 to two of three requests and 503 to the others, as a
#						generator with this seed has it, each after 0 to MS ms
#	/echo				200, the request's body
#	/redirect			302 to ?to=
#	/gone				410
#	/hang				no answer, the connection stays open
#	/slow/MS			200 after MS milliseconds
#	/drip/MS			head at once, then a byte of body every MS milliseconds,
#						?bytes= of them (10)
#	/hold/NAME			200 as soon as the file NAME is in --hold-dir
#	/reset				reads the request, then resets the connection
#	/reset-early		resets as soon as the request line was seen
#	/close				reads the request, then closes without an answer
#	/garbage			bytes that are not HTTP, then closes
#	/half				half of a status line, then closes
#	/big/BYTES			200, a body of that length
#	/endless			200, a chunked body without end, about 1 MB a second
#	/extension			200, a chunk extension without end, as fast as it is taken
#	/continues			"100 Continue" without end, likewise
#	/cut/BYTES			200, the first bytes of a longer body, then closes
#	/gzip				200, "ok" in gzip's encoding; ?cut= shortens that to so
#						many bytes
#	/headers/BYTES		200, with a header field of that length
#	/utf8				200, "a" and 1000 times a character of three bytes, in
#						chunks that end inside of characters; ?cut= shortens the
#						body to that many bytes
#	/latin1				200, text that is not valid UTF-8
#	/nul				200, text with NUL bytes
#
# Anything else is 404.  Where an answer is a plain one, ?status=, ?body= and
# ?header.NAME= change it: /slow/300?status=503&header.Retry-After=2.
#
# Each complete request becomes one line of JSON in the log, which is written
# before the first byte of the answer:
#
#	n				number of the request, from 1
#	at				seconds since the epoch when the request was complete
#	method, target	as sent; null if the request was malformed
#	headers			names in lower case; repeated ones joined with ", "
#	header_names	names as sent, in order
#	body			as text; what is not UTF-8 replaced by U+FFFD
#	body_base64		only then: the exact bytes
#	connection		number of the connection, from 1
#	peer			address and port of the client
#	in_flight		requests not answered yet, this one included
#	answer			the status, or what happened instead ("hang", "reset", ...)
#
# The numbers go on where an existing log ends.

use strict;
use warnings;
use feature 'current_sub';

use Encode ();
use Errno qw(EAGAIN EINTR EMFILE ENFILE EPERM EWOULDBLOCK);
use Fcntl qw(SEEK_SET);
use Getopt::Long;
use IO::Handle;
use IO::Socket::IP;
use MIME::Base64 qw(encode_base64);
use Socket qw(:all);
use Time::HiRes qw(time);

use constant {
	MAX_HEAD => 256 * 1024,
	MAX_BODY => 64 * 1024 * 1024,
	MAX_WAITING_INPUT => 1024 * 1024,
	PIECE => 64 * 1024,
	HOLD_POLL => 0.01,
	IDLE_POLL => 0.2,
};

my (@listen, $port_file, $log_file, $hold_dir, $tls, $cert, $key, $client_ca, $tls_version, $parent);
my $max_seconds = 900;

GetOptions(
	'listen=s' => \@listen,
	'port-file=s' => \$port_file,
	'log=s' => \$log_file,
	'hold-dir=s' => \$hold_dir,
	'tls' => \$tls,
	'client-ca=s' => \$client_ca,
	'tls-version=s' => \$tls_version,
	'cert=s' => \$cert,
	'key=s' => \$key,
	'max-seconds=f' => \$max_seconds,
	'parent=i' => \$parent)
  && !@ARGV
  && (!$tls || (defined $cert && defined $key))
  or die "usage: receiver.pl [--listen ADDRESS:PORT]... [--port-file FILE] "
  . "[--log FILE] [--hold-dir DIR] [--tls --cert FILE --key FILE] "
  . "[--max-seconds N] [--parent PID]\n";
@listen = ('127.0.0.1:0') unless @listen;

my %reason = (
	100 => 'Continue',
	200 => 'OK',
	201 => 'Created',
	202 => 'Accepted',
	204 => 'No Content',
	301 => 'Moved Permanently',
	302 => 'Found',
	303 => 'See Other',
	304 => 'Not Modified',
	307 => 'Temporary Redirect',
	308 => 'Permanent Redirect',
	400 => 'Bad Request',
	401 => 'Unauthorized',
	403 => 'Forbidden',
	404 => 'Not Found',
	410 => 'Gone',
	413 => 'Content Too Large',
	417 => 'Expectation Failed',
	429 => 'Too Many Requests',
	431 => 'Request Header Fields Too Large',
	500 => 'Internal Server Error',
	501 => 'Not Implemented',
	502 => 'Bad Gateway',
	503 => 'Service Unavailable',
	504 => 'Gateway Timeout');

my %route = (
	'ok' => \&answer_ok,
	'status' => \&answer_status,
	'flaky' => \&answer_flaky,
	'random' => \&answer_random,
	'echo' => \&answer_echo,
	'redirect' => \&answer_redirect,
	'gone' => \&answer_gone,
	'hang' => \&answer_hang,
	'slow' => \&answer_slow,
	'drip' => \&answer_drip,
	'hold' => \&answer_hold,
	'reset' => sub { return answer_raw($_[0], '', 'reset') },
	'close' => sub { return answer_raw($_[0], '', 'close') },
	'garbage' => sub {
		return answer_raw($_[0], "\x16\x03garbage \xff\x00\r\n\r\n",
			'close', 'garbage');
	},
	'half' => sub { return answer_raw($_[0], 'HTTP/1.1 2', 'close', 'half') },
	'big' => \&answer_big,
	'endless' => \&answer_endless,
	'extension' => \&answer_extension,
	'continues' => sub { return answer_flood($_[0], "HTTP/1.1 100 Continue\r\n\r\n" x 4096) },
	'cut' => \&answer_cut,
	'gzip' => \&answer_gzip,
	'headers' => \&answer_headers,
	'utf8' => \&answer_utf8,
	'latin1' => \&answer_latin1,
	'nul' => \&answer_nul);

# Connections and listeners by descriptor number, and the descriptors that the
# next select() watches.  select() on bit strings is the cheapest wait that
# plain Perl has, and unlike IO::Poll it builds nothing per descriptor.
my (@connections, @listeners);
my ($want_read, $want_write) = ('', '');

my @dirty;      # connections with something to send or to do
my @timers;     # [time, connection, callback], ordered by time
my %held;       # name of a hold => connections that wait for it
my %flaky;      # name => requests so far
my %random;     # seed => state of its generator
my $log_buffer = '';
my $log;
my ($requests, $accepted, $in_flight) = (0, 0, 0);
my ($stop, $started) = (0, time);
my $tls_context;

main();
exit 0;

sub main
{
	my $child_of_parent = defined $parent && getppid() == $parent;
	my $next_look = 0;

	$SIG{PIPE} = 'IGNORE';
	$SIG{TERM} = $SIG{INT} = sub { $stop = 1 };

	open_log() if defined $log_file;
	start_tls() if $tls;
	start_listening();

	while (!$stop)
	{
		my ($read, $write) = ($want_read, $want_write);
		my $wait = IDLE_POLL;
		my $now;

		if (@timers)
		{
			my $until = $timers[0][0] - time;

			$wait = $until > 0 ? $until : 0 if $until < $wait;
		}
		$wait = HOLD_POLL if %held && $wait > HOLD_POLL;

		if (select($read, $write, undef, $wait) > 0)
		{
			foreach_bit($read, \&readable);
			foreach_bit($write, \&writable);
		}

		$now = time;
		while (@timers && $timers[0][0] <= $now)
		{
			my ($at, $c, $callback) = @{ shift @timers };

			$callback->($c) unless $c->{closed};
		}
		release_held() if %held;

		# Answering can make the connection's next request complete.
		while (@dirty)
		{
			write_log();
			flush_output($_) foreach splice @dirty;
		}

		# Of requests that get no answer, too.
		write_log();

		if ($now >= $next_look)
		{
			$next_look = $now + IDLE_POLL;
			if ($now - $started > $max_seconds)
			{
				warn "ended after --max-seconds\n";
				last;
			}
			last if $child_of_parent && getppid() != $parent;
			last
			  if defined $parent && !kill(0, $parent) && $! != EPERM;
		}
	}
	write_log();
	unlink $port_file if defined $port_file;
	return;
}

# Calls a function with the number of each bit that is set.
sub foreach_bit
{
	my ($bits, $function) = @_;
	my $fd = -1;

	$bits = unpack('b*', $bits);
	$function->($fd) while ($fd = index($bits, '1', $fd + 1)) >= 0;
	return;
}

#
# Listening and connections
#

sub start_tls
{
	require IO::Socket::SSL;
	$tls_context = IO::Socket::SSL::SSL_Context->new(
		SSL_server => 1,
		SSL_cert_file => $cert,
		SSL_key_file => $key,
		SSL_alpn_protocols => ['http/1.1'],
		$tls_version ? (SSL_version => $tls_version) : (),
		$client_ca
		? ( SSL_ca_file => $client_ca,
			SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_PEER()
			  | IO::Socket::SSL::SSL_VERIFY_FAIL_IF_NO_PEER_CERT())
		: ())
	  or die "could not set up TLS: "
	  . IO::Socket::SSL::errstr() . "\n";
	return;
}

# All addresses given with port 0 share one port, so that a name with an IPv4
# and an IPv6 address works too.  The port is looked for below the ephemeral
# range: in it, a client could get it as its own port while the receiver is
# being restarted.
sub start_listening
{
	my @wanted;

	foreach my $listen (@listen)
	{
		$listen =~ /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/
		  or die "invalid address \"$listen\"\n";
		push @wanted, { host => $1 // $2, v6 => defined $1, port => $3 };
	}

	my $any = grep { $_->{port} == 0 } @wanted;

	foreach my $attempt (1 .. ($any ? 50 : 1))
	{
		my $port = 10200 + int(rand(32768 - 10200));
		my @sockets;

		foreach my $wanted (@wanted)
		{
			my $socket = IO::Socket::IP->new(
				LocalHost => $wanted->{host},
				LocalPort => $wanted->{port} || $port,
				Type => SOCK_STREAM,
				Listen => 4096,
				ReuseAddr => 1,
				V6Only => $wanted->{v6});

			last unless $socket;
			push @sockets, $socket;
		}
		next if @sockets < @wanted;

		foreach my $socket (@sockets)
		{
			$socket->blocking(0);
			$listeners[ fileno($socket) ] = $socket;
			vec($want_read, fileno($socket), 1) = 1;
		}
		write_port_file($sockets[0]->sockport) if defined $port_file;
		STDOUT->autoflush(1);
		foreach my $i (0 .. $#sockets)
		{
			printf "listening on %s:%d\n",
			  $wanted[$i]{v6} ? "[$wanted[$i]{host}]" : $wanted[$i]{host},
			  $sockets[$i]->sockport;
		}
		return;
	}
	die "could not listen on @listen: $@\n";
}

sub write_port_file
{
	my $port = shift;

	open my $file, '>', "$port_file.new"
	  or die "could not create file \"$port_file.new\": $!\n";
	print $file "$port\n";
	close $file
	  or die "could not write file \"$port_file.new\": $!\n";
	rename "$port_file.new", $port_file
	  or die "could not rename file \"$port_file.new\": $!\n";
	return;
}

sub readable
{
	my $fd = shift;

	if (my $c = $connections[$fd])
	{
		$c->{handshake} ? handshake($c) : read_input($c);
	}
	elsif (my $listener = $listeners[$fd])
	{
		accept_connections($listener);
	}
	return;
}

sub writable
{
	my $fd = shift;
	my $c = $connections[$fd] or return;

	$c->{handshake} ? handshake($c) : push @dirty, $c;
	return;
}

sub accept_connections
{
	my $listener = shift;

	foreach (1 .. 64)
	{
		my ($socket, $address, $c);

		# IO::Socket's accept() costs four times Perl's own, but
		# IO::Socket::SSL wants its objects.
		if ($tls)
		{
			($socket, $address) = $listener->accept('IO::Socket::IP');
		}
		else
		{
			$address = accept($socket, $listener);
		}

		if (!$address)
		{
			# Out of descriptors: don't spin, try again a little later.
			if ($! == EMFILE || $! == ENFILE)
			{
				my $fd = fileno($listener);

				vec($want_read, $fd, 1) = 0;
				add_timer({}, 0.1, sub { vec($want_read, $fd, 1) = 1 });
			}
			return;
		}

		$socket->blocking(0);
		setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
		$c = {
			socket => $socket,
			fd => fileno($socket),
			number => ++$accepted,
			peer => peer_name($address),
			in => '',
			out => '',
		};
		$connections[ $c->{fd} ] = $c;
		vec($want_read, $c->{fd}, 1) = 1;

		if ($tls)
		{
			$c->{handshake} = 1;
			IO::Socket::SSL->start_SSL(
				$socket,
				SSL_server => 1,
				SSL_startHandshake => 0,
				SSL_reuse_ctx => $tls_context)
			  or close_connection($c);
		}
		else
		{
			# Most clients send at once: spare a round of select().
			read_input($c);
		}
	}
	return;
}

sub peer_name
{
	my $address = shift;

	if (sockaddr_family($address) == AF_INET6)
	{
		my ($port, $ip) = unpack_sockaddr_in6($address);

		return '[' . inet_ntop(AF_INET6, $ip) . "]:$port";
	}
	my ($port, $ip) = unpack_sockaddr_in($address);

	return inet_ntoa($ip) . ":$port";
}

sub handshake
{
	my $c = shift;
	my $fd = $c->{fd};

	if ($c->{socket}->accept_SSL)
	{
		delete $c->{handshake};
		vec($want_write, $fd, 1) = 0;
		read_input($c);
	}
	elsif ($IO::Socket::SSL::SSL_ERROR == IO::Socket::SSL::SSL_WANT_READ())
	{
		vec($want_write, $fd, 1) = 0;
	}
	elsif ($IO::Socket::SSL::SSL_ERROR == IO::Socket::SSL::SSL_WANT_WRITE())
	{
		vec($want_write, $fd, 1) = 1;
	}
	else
	{
		warn "$c->{peer}: no TLS connection: "
		  . IO::Socket::SSL::errstr() . "\n";
		close_connection($c);
	}
	return;
}

sub read_input
{
	my $c = shift;
	my $end = 0;

	for (;;)
	{
		my $got = sysread($c->{socket}, $c->{in}, 16384, length $c->{in});

		if (!defined $got)
		{
			return close_connection($c)
			  unless $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
			last;
		}
		if ($got == 0)
		{
			$end = 1;
			last;
		}

		# TLS may hold decrypted bytes of which the descriptor shows nothing.
		last unless $tls;
	}

	process_input($c) unless $c->{busy};

	# The client has gone, or has at least nothing more to ask.  What is on
	# its way out still goes; what waits for anything else, doesn't.
	if ($end)
	{
		return close_connection($c) unless $c->{done};
		$c->{last_request} = 1;
		vec($want_read, $c->{fd}, 1) = 0;
	}
	if (length $c->{in} > MAX_WAITING_INPUT && $c->{busy})
	{
		vec($want_read, $c->{fd}, 1) = 0;
	}
	return;
}

# Sends what there is to send and does what comes after it.
sub flush_output
{
	my $c = shift;
	my $then;

	return if $c->{closed} || $c->{handshake};

	if ($c->{out} eq '' && $c->{source})
	{
		my $piece = $c->{source}->();

		defined $piece ? $c->{out} = $piece : delete $c->{source};
	}

	if ($c->{out} ne '')
	{
		my $sent = syswrite($c->{socket}, $c->{out});

		if (!defined $sent)
		{
			return close_connection($c)
			  unless $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
			$sent = 0;
		}
		substr($c->{out}, 0, $sent, '');
	}

	# One piece at a time, so that a huge answer doesn't starve the others.
	if ($c->{out} ne '' || $c->{source})
	{
		vec($want_write, $c->{fd}, 1) = 1;
		return;
	}
	vec($want_write, $c->{fd}, 1) = 0;
	return unless $c->{done};

	$then = $c->{then} // ($c->{last_request} ? 'close' : '');
	return close_connection($c, $then eq 'reset') if $then;

	$c->{busy} = $c->{done} = 0;
	$in_flight--;
	vec($want_read, $c->{fd}, 1) = 1;
	process_input($c) if $c->{in} ne '';
	return;
}

sub close_connection
{
	my ($c, $reset) = @_;

	return if $c->{closed};
	$c->{closed} = 1;
	$in_flight-- if $c->{busy};
	vec($want_read, $c->{fd}, 1) = 0;
	vec($want_write, $c->{fd}, 1) = 0;
	$connections[ $c->{fd} ] = undef;

	setsockopt($c->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0))
	  if $reset;
	if ($tls)
	{
		$c->{socket}->close($reset ? (SSL_no_shutdown => 1) : ());
	}
	else
	{
		close $c->{socket};
	}

	# A timer may keep the rest of it for a while.
	delete @$c{qw(socket in out source request)};
	return;
}

sub add_timer
{
	my ($c, $seconds, $callback) = @_;
	my $at = time + $seconds;
	my ($low, $high) = (0, scalar @timers);

	while ($low < $high)
	{
		my $middle = ($low + $high) >> 1;

		if ($timers[$middle][0] <= $at)
		{
			$low = $middle + 1;
		}
		else
		{
			$high = $middle;
		}
	}
	splice @timers, $low, 0, [ $at, $c, $callback ];
	return;
}

sub release_held
{
	foreach my $name (keys %held)
	{
		next unless -e "$hold_dir/$name";
		foreach my $waiting (@{ delete $held{$name} })
		{
			my ($c, $query) = @$waiting;

			answer($c, $query) unless $c->{closed};
		}
	}
	return;
}

#
# Requests
#

# Takes the next request from the connection's input if it is complete.
sub process_input
{
	my $c = shift;
	my $request = $c->{request};

	if (!$request)
	{
		my ($end, $head);

		# Tolerate empty lines between requests, as every server does.
		$c->{in} =~ s/\A(?:\r\n)+//;
		return if $c->{in} eq '';

		if ($c->{in} =~ m{\A([A-Z]+) (/reset-early(?:[?/]\S*)?) })
		{
			$request =
			  { method => $1, target => $2, names => [], headers => {} };
			$c->{then} = 'reset';
			return accept_request($c, $request, 'reset-early');
		}

		$end = index($c->{in}, "\r\n\r\n");
		if ($end < 0)
		{
			refuse($c, 431) if length $c->{in} > MAX_HEAD;
			return;
		}
		$head = substr($c->{in}, 0, $end + 4, '');
		$request = parse_head($head) or return refuse($c, 400, $head);
		$request->{body} = '';
		$c->{request} = $request;

		if (defined $request->{headers}{expect})
		{
			return refuse($c, 417, $head)
			  if lc $request->{headers}{expect} ne '100-continue';

			# No need to ask for what has already come.
			if ($c->{in} eq '' && ($request->{left} || $request->{chunked}))
			{
				$c->{out} .= "HTTP/1.1 100 Continue\r\n\r\n";
				push @dirty, $c;
			}
		}
	}

	if ($request->{chunked})
	{
		my $complete = read_chunks($c, $request);

		return refuse($c, 400) unless defined $complete;
		return unless $complete;
	}
	elsif ($request->{left})
	{
		return refuse($c, 413) if $request->{left} > MAX_BODY;
		return if length $c->{in} < $request->{left};
		$request->{body} = substr($c->{in}, 0, $request->{left}, '');
	}

	$c->{request} = undef;
	$c->{last_request} = 1 if $request->{close};
	return accept_request($c, $request);
}

# Returns the request of a head, or undef if it is malformed.  Strict, because
# what it lets through a test would take for correct.
sub parse_head
{
	my ($line, @fields) = split /\r\n/, shift;
	my (%headers, @names, $minor, %request);

	$line =~
	  m{\A([!#\$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])\z}
	  or return;
	($request{method}, $request{target}, $minor) = ($1, $2, $3);

	foreach (@fields)
	{
		m{\A([!#\$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\z}
		  or return;

		my ($name, $value) = (lc $1, $2);

		push @names, $1;
		$value =~ s/[ \t]+\z//;
		if (exists $headers{$name})
		{
			return if $name eq 'host' || $name eq 'content-length';
			$headers{$name} .= ", $value";
		}
		else
		{
			$headers{$name} = $value;
		}
	}
	$request{headers} = \%headers;
	$request{names} = \@names;

	return if $minor == 1 && !exists $headers{host};

	if (defined $headers{'transfer-encoding'})
	{
		return if lc $headers{'transfer-encoding'} ne 'chunked';
		return if exists $headers{'content-length'};
		$request{chunked} = 1;
	}
	elsif (defined $headers{'content-length'})
	{
		return if $headers{'content-length'} !~ /\A[0-9]{1,15}\z/;
		$request{left} = $headers{'content-length'} + 0;
	}

	my $connection = lc($headers{connection} // '');

	$request{keep_alive_1_0} = 1 if $minor == 0 && $connection =~ /keep-alive/;
	$request{close} = 1
	  if $connection =~ /\bclose\b/
	  || ($minor == 0 && !$request{keep_alive_1_0});
	return \%request;
}

# True when the body is complete, undef if it is malformed.
sub read_chunks
{
	my ($c, $request) = @_;

	for (;;)
	{
		if ($request->{trailer})
		{
			return 1 if $c->{in} =~ s/\A\r\n//;
			return 0 unless $c->{in} =~ s/\A[^\r\n]+\r\n//;
			next;
		}
		if (!defined $request->{chunk})
		{
			if ($c->{in} !~ s/\A([0-9A-Fa-f]{1,7})(?:;[^\r\n]*)?\r\n//)
			{
				return $c->{in} =~ /\n/ || length $c->{in} > 1024 ? undef : 0;
			}
			$request->{chunk} = hex $1;
			$request->{trailer} = 1 if $request->{chunk} == 0;
			next;
		}
		return 0 if length $c->{in} < $request->{chunk} + 2;
		$request->{body} .= substr($c->{in}, 0, $request->{chunk}, '');
		return undef if substr($c->{in}, 0, 2, '') ne "\r\n";
		return undef if length $request->{body} > MAX_BODY;
		$request->{chunk} = undef;
	}
}

# What can't be read is answered once, and logged with what was there.
sub refuse
{
	my ($c, $status, $head) = @_;
	my $raw = substr(($head // '') . $c->{in}, 0, 16384);

	$c->{in} = '';
	$c->{request} = undef;
	$c->{last_request} = 1;
	$c->{busy} = 1;
	$c->{method} = '';
	$in_flight++;
	answer($c, {}, $status);
	return log_request($c, { body => $raw }, $status);
}

# Decides what becomes of a complete request and logs it.  Nothing is sent
# before the log is written: whoever sees an answer finds its request there.
sub accept_request
{
	my ($c, $request, $label) = @_;

	$c->{busy} = 1;
	$c->{method} = $request->{method};
	$c->{keep_alive_1_0} = $request->{keep_alive_1_0};
	$in_flight++;

	if (defined $label)
	{
		$c->{done} = 1;
		push @dirty, $c;
	}
	else
	{
		my ($path, $query) = split /\?/, $request->{target}, 2;
		my (undef, $name, @arguments) = split m{/}, $path;
		my $function = $route{ $name // '' };
		my $values = defined $query ? parse_query($query) : {};

		$label = $function->($c, $values, $request, @arguments)
		  if $function && $path =~ m{\A/};
		$label //= answer($c, {}, 404);
	}
	return log_request($c, $request, $label);
}

sub parse_query
{
	my %values;

	foreach my $pair (split /&/, shift)
	{
		my ($name, $value) = split /=/, $pair, 2;

		foreach ($name, $value)
		{
			$_ //= '';
			tr/+/ /;
			s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
		}
		$values{$name} = $value;
	}
	return \%values;
}

#
# The log
#

sub open_log
{
	open $log, '+>>:raw', $log_file
	  or die "could not open file \"$log_file\": $!\n";
	seek $log, 0, SEEK_SET;
	while (my $line = <$log>)
	{
		$requests++;
		$accepted = $1
		  if $line =~ /"connection":(\d+),"peer"/ && $1 > $accepted;
	}
	return;
}

sub log_request
{
	my ($c, $request, $label) = @_;
	my $body = $request->{body};
	my $base64 = '';

	$requests++;
	return unless $log;

	if (!defined $body)
	{
		$body = 'null';
	}
	elsif ($body =~ /[\x80-\xff]/ && !is_utf8($body))
	{
		$base64 = ',"body_base64":"' . encode_base64($body, '') . '"';
		$body = json_string(
			Encode::encode('UTF-8', Encode::decode('UTF-8', $body)));
	}
	else
	{
		$body = json_string($body);
	}

	$log_buffer .= sprintf(
		'{"n":%d,"at":%.6f,"method":%s,"target":%s,"headers":{%s},'
		  . '"header_names":[%s],"body":%s%s,'
		  . '"connection":%d,"peer":"%s","in_flight":%d,"answer":%s}' . "\n",
		$requests,
		time,
		json_text($request->{method}),
		json_text($request->{target}),
		join(
			',',
			map { "\"$_\":" . json_text($request->{headers}{$_}) }
			  keys %{ $request->{headers} }),
		join(',', map { "\"$_\"" } @{ $request->{names} }),
		$body,
		$base64,
		$c->{number},
		$c->{peer},
		$in_flight,
		$label =~ /\A[0-9]+\z/ ? $label + 0 : "\"$label\"");
	return;
}

sub write_log
{
	while ($log_buffer ne '')
	{
		my $written = syswrite($log, $log_buffer);

		if (!defined $written)
		{
			next if $! == EINTR;
			die "could not write file \"$log_file\": $!\n";
		}
		substr($log_buffer, 0, $written, '');
	}
	return;
}

# Strictly: Perl's own check lets surrogates pass.
sub is_utf8
{
	my $bytes = shift;

	return defined eval {
		Encode::decode('UTF-8', $bytes, Encode::FB_CROAK);
	};
}

# JSON of text that is already UTF-8.  JSON::PP would take ten times as long as
# all the rest together.
sub json_string
{
	my $text = shift;

	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x00-\x1f\x7f])/sprintf('\\u%04x', ord $1)/ge;
	return "\"$text\"";
}

# JSON of a header field or a target, which may be anything.
sub json_text
{
	my $text = shift;

	return 'null' unless defined $text;
	$text = Encode::encode('UTF-8', $text)
	  if $text =~ /[\x80-\xff]/ && !is_utf8($text);
	return json_string($text);
}

#
# Answers
#
# Each function gets the connection, the query's values, the request and the
# path's remaining parts.  It returns what the log says of the answer, or undef
# if the path is not one that it knows.
#

# Sends the head of an answer, with what the query has to say about it.
sub answer_head
{
	my ($c, $query, $status, @fields) = @_;
	my $reason = $reason{$status} // 'Unknown';
	my %own = map { /^header\.(.+)/ ? (lc $1 => 1) : () } keys %$query;
	my $head = "HTTP/1.1 $status $reason\r\n";

	while (my ($name, $value) = splice @fields, 0, 2)
	{
		$head .= "$name: $value\r\n" unless %own && $own{ lc $name };
	}
	if (%own)
	{
		foreach my $name (sort grep { /^header\./ } keys %$query)
		{
			$head .= substr($name, 7) . ": $query->{$name}\r\n";
		}
		$c->{last_request} = 1
		  if lc($query->{'header.Connection'} // '') eq 'close';
	}
	if ($own{connection})
	{
		# the test's own affair
	}
	elsif ($c->{last_request})
	{
		$head .= "Connection: close\r\n";
	}
	elsif ($c->{keep_alive_1_0})
	{
		$head .= "Connection: keep-alive\r\n";
	}
	$c->{out} .= "$head\r\n";
	push @dirty, $c;
	return;
}

# A whole answer, now.
sub answer
{
	my ($c, $query, $status, $body) = @_;
	my $bodyless;

	$status = $query->{status}
	  if defined $query->{status} && $query->{status} =~ /\A[1-9][0-9]{2}\z/;
	$status //= 200;

	# The final answer that a client expects after a 1xx never comes.
	if ($status < 200)
	{
		answer_head($c, $query, $status);
		return $status;
	}

	$body = $query->{body} // $body // lc($reason{$status} // '');
	$bodyless = $status == 204 || $status == 304;
	answer_head(
		$c, $query, $status,
		$bodyless
		? ()
		: ('Content-Type' => 'text/plain',
			'Content-Length' => length $body));
	$c->{out} .= $body unless $bodyless || $c->{method} eq 'HEAD';
	$c->{done} = 1;
	return $status;
}

# Bytes instead of an answer, then the end of the connection.
sub answer_raw
{
	my ($c, $bytes, $then, $label) = @_;

	$c->{out} .= $bytes;
	$c->{then} = $then;
	$c->{done} = 1;
	push @dirty, $c;
	return $label // $then;
}

sub answer_ok
{
	my ($c, $query, $request) = @_;

	return answer($c, $query, 200, 'ok');
}

sub answer_status
{
	my ($c, $query, $request, $status) = @_;

	return unless ($status // '') =~ /\A[1-9][0-9]{2}\z/;
	return answer($c, $query, $status);
}

sub answer_flaky
{
	my ($c, $query, $request, $name, $failures) = @_;

	return unless ($failures // '') =~ /\A[0-9]+\z/;
	return answer($c, $query, 500) if ++$flaky{$name} <= $failures;

	# ?status= is the status of the failures.
	return answer($c, { %$query, status => 200 }, 200, 'ok');
}

sub answer_random
{
	my ($c, $query, $request, $seed, $ms) = @_;

	return unless ($seed // '') =~ /\A[0-9]{1,9}\z/ && ($ms // '') =~ /\A[0-9]{1,9}\z/;
	my $next = sub { return $random{$seed} = (($random{$seed} // $seed) * 1103515245 + 12345) % 2**31; };
	my $status = ($next->() >> 8) % 3 ? 200 : 503;
	my $delay = ($next->() >> 8) % ($ms + 1);

	add_timer($c, $delay / 1000, sub { answer($c, $query, $status) });
	return $status;
}

sub answer_echo
{
	my ($c, $query, $request) = @_;

	return answer($c, $query, 200, $request->{body});
}

sub answer_redirect
{
	my ($c, $query) = @_;

	return answer($c, { 'header.Location' => $query->{to} // '/ok', %$query },
		302);
}

sub answer_gone
{
	my ($c, $query) = @_;

	return answer($c, $query, 410);
}

sub answer_hang
{
	return 'hang';
}

sub answer_slow
{
	my ($c, $query, $request, $ms) = @_;

	return unless ($ms // '') =~ /\A[0-9]+\z/;
	add_timer($c, $ms / 1000, sub { answer($c, $query, 200, 'ok') });
	return 'slow';
}

sub answer_drip
{
	my ($c, $query, $request, $ms) = @_;
	my $left = $query->{bytes} // 10;

	return unless ($ms // '') =~ /\A[0-9]+\z/ && $left =~ /\A[0-9]+\z/;

	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Content-Length' => $left);
	my $drop = sub {
		if ($left > 0)
		{
			$left--;
			$c->{out} .= '.';
			add_timer($c, $ms / 1000, __SUB__) if $left > 0;
		}
		$c->{done} = 1 if $left == 0;
		push @dirty, $c;
	};

	add_timer($c, $left > 0 ? $ms / 1000 : 0, $drop);
	return 'drip';
}

sub answer_hold
{
	my ($c, $query, $request, $name) = @_;

	return unless defined $hold_dir && ($name // '') =~ /\A[\w-][\w.-]*\z/;
	push @{ $held{$name} }, [ $c, $query ];
	return 'hold';
}

sub answer_big
{
	my ($c, $query, $request, $left) = @_;

	return unless ($left // '') =~ /\A[0-9]+\z/;
	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Content-Length' => $left);
	$c->{source} = sub {
		my $length = $left < PIECE ? $left : PIECE;

		$left -= $length;
		return $length > 0 ? 'x' x $length : undef;
	};
	$c->{done} = 1;
	return $query->{status} // 200;
}

sub answer_endless
{
	my ($c, $query) = @_;
	my $chunk = sprintf("%x\r\n%s\r\n", 16384, 'x' x 16384);

	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Transfer-Encoding' => 'chunked');
	my $more = sub {
		# What the client doesn't take is not piled up.
		if (length $c->{out} < PIECE)
		{
			$c->{out} .= $chunk;
			push @dirty, $c;
		}
		add_timer($c, 0.015, __SUB__);
	};

	$more->();
	return 'endless';
}

# Goes on with the same bytes.
sub answer_flood
{
	my ($c, $bytes) = @_;

	$c->{source} = sub { return $bytes };
	push @dirty, $c;
	return 'flood';
}

sub answer_extension
{
	my ($c, $query) = @_;

	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Transfer-Encoding' => 'chunked');
	$c->{out} .= '2;';
	return answer_flood($c, 'x' x PIECE);
}

sub answer_cut
{
	my ($c, $query, $request, $bytes) = @_;

	return unless ($bytes // '') =~ /\A[0-9]+\z/;
	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Content-Length' => $bytes + 1);
	return answer_raw($c, 'x' x $bytes, 'close', 'cut');
}

sub answer_gzip
{
	my ($c, $query) = @_;
	my $body;

	require IO::Compress::Gzip;
	IO::Compress::Gzip::gzip(\'ok' => \$body) or return;
	$body = substr($body, 0, $query->{cut})
	  if ($query->{cut} // '') =~ /\A[0-9]+\z/;
	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain',
		'Content-Encoding' => 'gzip',
		'Content-Length' => length $body);
	$c->{out} .= $body;
	$c->{done} = 1;
	return $query->{status} // 200;
}

sub answer_headers
{
	my ($c, $query, $request, $length) = @_;

	return unless ($length // '') =~ /\A[0-9]+\z/ && $length <= MAX_BODY;
	return answer($c, { 'header.X-Long' => 'x' x $length, %$query },
		200, 'ok');
}

sub answer_utf8
{
	my ($c, $query) = @_;
	my $body = 'a' . "\xe2\x82\xac" x 1000;
	my $chunked = '';
	my $size = 0;

	$body = substr($body, 0, $query->{cut})
	  if ($query->{cut} // '') =~ /\A[0-9]+\z/;
	answer_head(
		$c, $query,
		$query->{status} // 200,
		'Content-Type' => 'text/plain; charset=utf-8',
		'Transfer-Encoding' => 'chunked');
	while ($body ne '')
	{
		# 1, 2, 3 ... bytes: these chunks end everywhere in a character
		my $piece = substr($body, 0, ++$size, '');

		$chunked .= sprintf("%x\r\n%s\r\n", length $piece, $piece);
	}
	$c->{out} .= "${chunked}0\r\n\r\n";
	$c->{done} = 1;
	return $query->{status} // 200;
}

sub answer_latin1
{
	my ($c, $query) = @_;

	return answer($c, $query, 200, "caf\xe9 \xfc\xdf \xc3\x28 \xff end");
}

sub answer_nul
{
	my ($c, $query) = @_;

	return answer($c, $query, 200, "before\0after\0\0end");
}
