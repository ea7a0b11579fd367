package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// statistics are what it costs to be asked for them, with a pod for each container.
type statistics struct {
	Containers       int       `json:"containers"`
	Latency          latencies `json:"latency"`
	DaemonCPUPercent float64   `json:"daemon_cpu_percent"` // of one core, asked for both lists every second
}

// processCPU is the CPU time of a process up to now.
func processCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// lists asks for both lists once, and holds them to what must be in them.
func (c *client) lists(r *recorder, containers int) error {
	return firstError(
		r.time("ListContainerStats", func(ctx context.Context) error {
			resp, err := c.rt.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
			if n := len(resp.GetStats()); err == nil && n < containers {
				return fmt.Errorf("%d containers instead of %d", n, containers)
			}
			return err
		}),
		r.time("ListPodSandboxStats", func(ctx context.Context) error {
			resp, err := c.rt.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
			if n := len(resp.GetStats()); err == nil && n < containers {
				return fmt.Errorf("%d pods instead of %d", n, containers)
			}
			return err
		}))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *client) statistics(o options) (*statistics, error) {
	const calls = 100
	defer c.removeEverything()
	if _, err := together(o.statsContainers, 4, func() error { _, _, err := c.startPod(); return err }); err != nil {
		return nil, err
	}
	if err := c.lists(newRecorder(), o.statsContainers); err != nil { // files are opened
		return nil, err
	}
	recorder := newRecorder()
	for range calls {
		if err := c.lists(recorder, o.statsContainers); err != nil {
			return nil, err
		}
	}
	before, err := processCPU(o.pid)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for i := range o.statsSeconds {
		if err := c.lists(newRecorder(), o.statsContainers); err != nil {
			return nil, err
		}
		time.Sleep(time.Until(start.Add(time.Duration(i+1) * time.Second)))
	}
	after, err := processCPU(o.pid)
	if err != nil {
		return nil, err
	}
	percent := round(100 * float64(after-before) / float64(time.Since(start)))
	return &statistics{Containers: o.statsContainers, Latency: recorder.summary(), DaemonCPUPercent: percent}, nil
}
