#!/usr/bin/perl
# Second step of the lot: release it or hold it for an engineer. Knows nothing of telemetry; `wafer run` makes it a subjob.
# In: summary.json of the first step. Out: disposition.txt beside it.
use strict;
use warnings;
use JSON::PP;

my ($summary_path, $limit) = @ARGV;
die "usage: disposition.pl SUMMARY.json YIELD_LIMIT\n" unless defined $limit;
open my $in, '<', $summary_path or die "$summary_path: $!\n";
my $summary = decode_json(do { local $/; <$in> });
close $in;

my @wafers = @{ $summary->{wafers} };
my @low;
my $done = 0;
for my $wafer (@wafers) {
    push @low, $wafer->{id} if $wafer->{yield} < $limit;
    $done++;
    if (my $fd = $ENV{WAFER_PROGRESS_FD}) {
        if (open my $progress, '>&=', $fd) { syswrite $progress, "$done/" . scalar(@wafers) . " $wafer->{id}\n" }
    }
}
my $verdict = @low ? "hold" : "release";
(my $out_path = $summary_path) =~ s/summary\.json$/disposition.txt/;
open my $out, '>', $out_path or die "$out_path: $!\n";
print $out "$summary->{lot} $verdict", (@low ? " (below limit: @low)" : ""), "\n";
close $out or die "$out_path: $!\n";
print "lot $summary->{lot}: $verdict\n";
