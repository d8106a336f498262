# Obstacles.pm
#	  What a test puts in the way of a server: a clock that is set, a disk that is full,
#	  a resolver, addresses that drop packets, and nginx in front of a receiver.
#
# Synopsis:
#
#	my $preload = WebhookEvents::Obstacles->new(qw(clock disk resolver));
#	$preload->with(sub { $node->start });
#	$preload->set_clock(-3600);
#	$preload->fill_disk(1);

package WebhookEvents::Obstacles;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use Socket qw(:all);
use WebhookEvents::Node;

our @EXPORT_OK = qw(drop_packets_to is_dropping find_nginx start_nginx);

my $sources = abs_path(dirname(__FILE__) . '/../..');

# Builds what is to be preloaded: clock, disk, resolver.
sub new
{
	my ($class, @names) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];
	my $self = bless {
		environment => { map { ('TEST_' . uc, "$directory/$_") } @names },
		libraries => join(':', map { "$directory/$_.so" } @names),
	}, $class;

	foreach my $name (@names)
	{
		PostgreSQL::Test::Utils::system_or_bail($cc, '-shared', '-fPIC', '-o', "$directory/$name.so",
			"$sources/$name.c", '-ldl');
		$self->_write($name, $name eq 'clock' ? pack('q2', 0, 0) : $name eq 'disk' ? '0' : '');
	}
	return $self;
}

# Runs what starts a server.
sub with
{
	my ($self, $do) = @_;

	local @ENV{ 'LD_PRELOAD', keys %{ $self->{environment} } } =
	  ($self->{libraries}, values %{ $self->{environment} });
	return $do->();
}

# Sets the clock so many seconds away from the right time.
sub set_clock
{
	my ($self, $seconds) = @_;

	$self->_write('clock', pack('q2', int($seconds * 1e6), 0));
	return;
}

# From now on the files of relations can't grow; or they can again.
sub fill_disk
{
	my ($self, $full) = @_;

	$self->_write('disk', $full ? '1' : '0');
	return;
}

# Lines "name address..."; names end in ".test".
sub set_names
{
	my ($self, @lines) = @_;

	$self->_write('resolver', join '', map { "$_\n" } @lines);
	return;
}

# In one write to the same file, which may be mapped.
sub _write
{
	my ($self, $name, $bytes) = @_;
	my $path = $self->{environment}{ 'TEST_' . uc $name };

	open(my $file, -e $path ? '+<' : '>', $path) or croak "could not open $path: $!";
	binmode $file;
	defined syswrite($file, $bytes) or croak "could not write $path: $!";
	truncate $file, length $bytes;
	close $file;
	return;
}

# From now on an address drops packets, without leaving this machine: somebody listens who
# accepts nothing and whose queue is full, so the kernel drops what comes.  Returns
# the sockets, which are to be kept as long as that is to last.
sub drop_packets_to
{
	my ($address, $port) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port,
		Listen => 1, ReuseAddr => 1) or croak "could not listen on $address: $!";
	my @sockets = ($listener);

	listen($listener, 0) or croak "could not listen on $address: $!";
	foreach (1 .. 4)
	{
		socket(my $filler, PF_INET, SOCK_STREAM, 0) or croak "could not create socket: $!";
		IO::Handle::blocking($filler, 0);
		connect($filler, pack_sockaddr_in($port, inet_aton($address)));
		push @sockets, $filler;
	}
	return @sockets;
}

# Does the kernel do so?
sub is_dropping
{
	my ($address, $port) = @_;

	return !IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 1)
	  && $!{ETIMEDOUT};
}

# The path of nginx, or undef.
sub find_nginx
{
	my ($path) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin';

	return $path;
}

# Starts nginx, with lines for the http section of its configuration, in a directory,
# and returns its process id; SIGHUP has it loaded again, SIGTERM ends it.
sub start_nginx
{
	my ($directory, $http) = @_;
	my $nginx = find_nginx() // croak 'there is no nginx';

	PostgreSQL::Test::Utils::append_to_file("$directory/nginx.conf", <<"CONF");
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log $directory/error.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path $directory/body;
	proxy_temp_path $directory/proxy;
	fastcgi_temp_path $directory/fastcgi;
	uwsgi_temp_path $directory/uwsgi;
	scgi_temp_path $directory/scgi;
$http
}
CONF
	my $pid = fork() // croak "could not fork: $!";
	if ($pid == 0)
	{
		open(STDERR, '>', "$directory/nginx.out");
		no warnings 'exec';
		exec $nginx, '-p', $directory, '-c', "$directory/nginx.conf", '-e', "$directory/error.log";
		POSIX::_exit(127);
	}
	wait_until { -s "$directory/nginx.pid" } 'nginx has started';
	return $pid;
}

1;
