# Requests.pm
#	  The requests that test/receiver.pl reads, strictly, and its log of them.

package WebhookEvents::Receiver::Requests;

use strict;
use warnings;

use Encode ();
use Errno qw(EINTR);
use Exporter 'import';
use Fcntl qw(SEEK_SET);
use IO::Handle;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256_base64);
use MIME::Base64 qw(encode_base64);
use Time::HiRes qw(time);
use WebhookEvents::Receiver::Answers;
use WebhookEvents::Receiver::Connections;

our @EXPORT = qw(process_input open_log write_log);

use constant MAX_HEAD => 256 * 1024;

my $log;
my $log_buffer = '';
my $requests = 0;

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
				send_soon($c);
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
	begin_request($c);
	$c->{method} = '';
	answer($c, {}, $status);
	return log_request($c, { body => $raw }, $status);
}

# Decides what becomes of a complete request and logs it.  Nothing is sent
# before the log is written: whoever sees an answer finds its request there.
sub accept_request
{
	my ($c, $request, $label) = @_;

	begin_request($c);
	$c->{method} = $request->{method};
	$c->{keep_alive_1_0} = $request->{keep_alive_1_0};

	if (defined $label)
	{
		$c->{done} = 1;
		send_soon($c);
	}
	else
	{
		my ($path, $query) = split /\?/, $request->{target}, 2;
		my (undef, $name, @arguments) = split m{/}, $path;
		my $function = function_of($name // '');
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

# Numbers go on where an existing log ends; returns that of its last connection.
sub open_log
{
	my $log_file = shift;
	my $accepted = 0;

	open $log, '+>>:raw', $log_file
	  or die "could not open file \"$log_file\": $!\n";
	seek $log, 0, SEEK_SET;
	while (my $line = <$log>)
	{
		$requests++;
		$accepted = $1
		  if $line =~ /"connection":(\d+),"peer"/ && $1 > $accepted;
	}
	return $accepted;
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
	elsif (($request->{target} // '') =~ /[?&]digest=([0-9a-f]*)/)
	{
		$body = json_string(digest($request, $1));
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
		requests_in_flight(),
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
			die "could not write the log: $!\n";
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

# What is logged of a body instead of it: its length, its MD5, its signature by a key.
sub digest
{
	my ($request, $key) = @_;
	my $head = join '', map { ($request->{headers}{$_} // '') . '.' } 'webhook-id', 'webhook-timestamp';

	return join ' ', length $request->{body}, md5_hex($request->{body}),
	  hmac_sha256_base64($head . $request->{body}, pack('H*', $key)) . '=';
}

1;
