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
# ?header.NAME= change it: /slow/300?status=503&header.Retry-After=2.  With
# ?digest=KEY the log has no body, but its length, its MD5 and its signature by
# that key, which is in hexadecimal.
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

use Cwd qw(abs_path);
use Errno qw(EPERM);
use File::Basename qw(dirname);
use Getopt::Long;
use Time::HiRes qw(time);

use lib abs_path(dirname(__FILE__)) . '/lib';
use WebhookEvents::Receiver::Answers;
use WebhookEvents::Receiver::Connections;
use WebhookEvents::Receiver::Requests;

use constant {
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
my ($stop, $started) = (0, time);

main();
exit 0;

sub main
{
	my $child_of_parent = defined $parent && getppid() == $parent;
	my $next_look = 0;
	my $number;

	$SIG{PIPE} = 'IGNORE';
	$SIG{TERM} = $SIG{INT} = sub { $stop = 1 };

	hold_in($hold_dir) if defined $hold_dir;
	$number = open_log($log_file) if defined $log_file;
	start_tls($cert, $key, $client_ca, $tls_version) if $tls;
	start_listening(\&process_input, $number // 0, $port_file, @listen);

	while (!$stop)
	{
		wait_and_read(any_held() ? HOLD_POLL : IDLE_POLL);
		release_held() if any_held();
		send_answers(\&write_log);

		# Of requests that get no answer, too.
		write_log();

		if (time >= $next_look)
		{
			$next_look = time + IDLE_POLL;
			if (time - $started > $max_seconds)
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
