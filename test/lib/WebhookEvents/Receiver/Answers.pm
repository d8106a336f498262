# Answers.pm
#	  What test/receiver.pl answers, which follows from a request's path alone.
#
# Each function gets the connection, the query's values, the request and the
# path's remaining parts.  It returns what the log says of the answer, or undef
# if the path is not one that it knows.

package WebhookEvents::Receiver::Answers;

use strict;
use warnings;
use feature 'current_sub';

use Exporter 'import';
use WebhookEvents::Receiver::Connections;

our @EXPORT = qw(MAX_BODY answer function_of hold_in any_held release_held);

use constant {
	MAX_BODY => 64 * 1024 * 1024,
	PIECE => 64 * 1024,
};

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

my $hold_dir;   # where files say that holds end
my %held;       # name of a hold => connections that wait for it
my %flaky;      # name => requests so far
my %random;     # seed => state of its generator

# The function for a path's first part; undef if there is none.
sub function_of
{
	my $name = shift;

	return $route{$name};
}

# Holds end by files in this directory.
sub hold_in
{
	$hold_dir = shift;
	return;
}

sub any_held
{
	return scalar %held;
}

# Answers those whose holds have ended.
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
	send_soon($c);
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
	send_soon($c);
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
		send_soon($c);
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
			send_soon($c);
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
	send_soon($c);
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

1;
