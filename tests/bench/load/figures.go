package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"sort"
	"time"
)

type latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

type latencies map[string]latency

// recorder keeps the durations of calls by name.
type recorder struct {
	taken map[string][]time.Duration
}

func newRecorder() *recorder { return &recorder{taken: map[string][]time.Duration{}} }

func (r *recorder) time(name string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	r.taken[name] = append(r.taken[name], time.Since(start))
	return err
}

func (r *recorder) summary() latencies {
	result := latencies{}
	for name, taken := range r.taken {
		sort.Slice(taken, func(i, j int) bool { return taken[i] < taken[j] })
		result[name] = latency{P50: quantile(taken, 0.50), P99: quantile(taken, 0.99)}
	}
	return result
}

// quantile of sorted durations by the nearest rank, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	rank := max(int(math.Ceil(q*float64(len(sorted)))), 1)
	return round(float64(sorted[rank-1].Nanoseconds()) / 1e6)
}

func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// print shows the report as a table for people.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s at %s, %d cycles; milliseconds\n", r.Runtime, r.Endpoint, r.Cycles)
	fmt.Fprintf(w, "%-20s %9s %9s %12s %12s %12s\n", "call", "p50", "p99", "at rest p50", "at rest p99", "hostnet p50")
	var names []string
	for name := range r.Latency {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		l, rest, host := r.Latency[name], r.LatencyAtRest[name], r.LatencyHostNetwork[name]
		fmt.Fprintf(w, "%-20s %9.2f %9.2f %12.2f %12.2f %12.2f\n", name, l.P50, l.P99, rest.P50, rest.P99, host.P50)
	}
	fmt.Fprintf(w, "pods/s at 1, 4, 8:  %.1f %.1f %.1f\n", r.PodsPerSecond["1"], r.PodsPerSecond["4"], r.PodsPerSecond["8"])
	fmt.Fprintf(w, "execs/s at 1, 4, 8: %.0f %.0f %.0f\n", r.ExecsPerSecond["1"], r.ExecsPerSecond["4"], r.ExecsPerSecond["8"])
	fmt.Fprintf(w, "CPU per pod cycle:  %.1f ms (the generator's own: %.1f ms besides)\n", r.CPUMsPerPod, r.GeneratorCPUMs)
	fmt.Fprintf(w, "daemon PSS: %d KiB; helpers: %.0f KiB in %.1f processes per pod\n", r.DaemonPssKB, r.HelperPssKBPerPod, r.HelpersPerPod)
	if r.Statistics != nil {
		l := r.Statistics.Latency
		fmt.Fprintf(w, "%d containers: ListContainerStats p50 %.2f p99 %.2f, ListPodSandboxStats p50 %.2f p99 %.2f\n",
			r.Statistics.Containers, l["ListContainerStats"].P50, l["ListContainerStats"].P99,
			l["ListPodSandboxStats"].P50, l["ListPodSandboxStats"].P99)
		fmt.Fprintf(w, "both asked every second: daemon's CPU %.2f %% of a core\n", r.Statistics.DaemonCPUPercent)
	}
}
