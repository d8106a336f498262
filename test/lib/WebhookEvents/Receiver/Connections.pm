# Connections.pm
#	  Connections of test/receiver.pl: one thread and one select() loop.
#
# A connection is a hash that the rest of the receiver shares:
#
#	in, out			bytes that were read, and that are to be sent
#	source			a function that gives more to send, undef at its end
#	busy			a request is being answered
#	done			its answer is all in out and source
#	then			what follows it: "close" or "reset"
#	last_request	the connection is closed after it
#	closed			it is gone

package WebhookEvents::Receiver::Connections;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EMFILE ENFILE EWOULDBLOCK);
use Exporter 'import';
use IO::Handle;
use IO::Socket::IP;
use Socket qw(:all);
use Time::HiRes qw(time);

our @EXPORT = qw(start_tls start_listening wait_and_read send_answers add_timer
  begin_request requests_in_flight send_soon);

use constant MAX_WAITING_INPUT => 1024 * 1024;

# Connections and listeners by descriptor number, and the descriptors that the
# next select() watches.  select() on bit strings is the cheapest wait that
# plain Perl has, and unlike IO::Poll it builds nothing per descriptor.
my (@connections, @listeners);
my ($want_read, $want_write) = ('', '');

my @dirty;      # connections with something to send or to do
my @timers;     # [time, connection, callback], ordered by time
my ($accepted, $in_flight) = (0, 0);    # connections so far, requests now
my $on_input;      # what is done with input that has come
my $tls_context;   # undef: plain

# Connections are over TLS from now on.
sub start_tls
{
	my ($cert, $key, $client_ca, $tls_version) = @_;

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

# Listens, and tells where.  The function is called with a connection whenever its input
# may hold a whole request; numbers of connections go on after the given one.
#
# All addresses given with port 0 share one port, so that a name with an IPv4
# and an IPv6 address works too.  The port is looked for below the ephemeral
# range: in it, a client could get it as its own port while the receiver is
# being restarted.
sub start_listening
{
	my ($function, $number, $port_file, @listen) = @_;
	my @wanted;

	$on_input = $function;
	$accepted = $number;

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
		write_port_file($port_file, $sockets[0]->sockport) if defined $port_file;
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
	my ($port_file, $port) = @_;

	open my $file, '>', "$port_file.new"
	  or die "could not create file \"$port_file.new\": $!\n";
	print $file "$port\n";
	close $file
	  or die "could not write file \"$port_file.new\": $!\n";
	rename "$port_file.new", $port_file
	  or die "could not rename file \"$port_file.new\": $!\n";
	return;
}

# Waits for at most so many seconds, reads what has come, and runs timers that are up.
sub wait_and_read
{
	my $wait = shift;
	my ($read, $write) = ($want_read, $want_write);
	my $now;

	if (@timers)
	{
		my $until = $timers[0][0] - time;

		$wait = $until > 0 ? $until : 0 if $until < $wait;
	}
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
	return;
}

# Sends what there is to send, after a call of the function each time: answering can
# make a connection's next request complete.
sub send_answers
{
	my $before = shift;

	while (@dirty)
	{
		$before->();
		flush_output($_) foreach splice @dirty;
	}
	return;
}

# There is something to send or to do.
sub send_soon
{
	push @dirty, shift;
	return;
}

# A request is being answered from now until its answer is out, or its connection closed.
sub begin_request
{
	my $c = shift;

	$c->{busy} = 1;
	$in_flight++;
	return;
}

sub requests_in_flight
{
	return $in_flight;
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
		if ($tls_context)
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

		if ($tls_context)
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
		last unless $tls_context;
	}

	$on_input->($c) unless $c->{busy};

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
	$on_input->($c) if $c->{in} ne '';
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
	if ($tls_context)
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

# Calls the function with the connection after so many seconds, unless that is closed then.
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

1;
