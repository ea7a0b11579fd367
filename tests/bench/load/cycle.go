package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// client is one connection to the runtime, and the pods that were made over it.
type client struct {
	conn *grpc.ClientConn
	runtimeService
	image   string
	parent  string
	logs    string
	runtime string
	count   atomic.Int64
	session int64
	isolate isolation
}

// isolation is what pods and containers are made with beyond the plainest.
type isolation struct {
	seccomp, userns bool
	sources         []string // host directories, each mounted into every container
}

type runtimeService struct {
	rt cri.RuntimeServiceClient
	im cri.ImageServiceClient
}

const (
	callLimit      = 2 * time.Minute
	runLessPlugins = "RunPodSandboxLessCNI"
)

func dial(o options, logs string) (*client, error) {
	conn, err := grpc.NewClient(o.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, image: o.image, parent: o.cgroupParent, logs: logs, session: time.Now().UnixNano()}
	c.isolate = isolation{seccomp: o.seccomp, userns: o.userns}
	for i := range o.mounts {
		source := fmt.Sprintf("%s/source-%d", logs, i)
		if err := os.Mkdir(source, 0o755); err != nil {
			return nil, err
		}
		c.isolate.sources = append(c.isolate.sources, source)
	}
	c.rt, c.im = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	version, err := c.rt.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return nil, err
	}
	c.runtime = version.RuntimeName + " " + version.RuntimeVersion
	_, err = c.im.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: o.image}})
	return c, err
}

func (c *client) podConfig(hostNetwork bool) *cri.PodSandboxConfig {
	name := fmt.Sprintf("load-%d-%d", c.session, c.count.Add(1))
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "crisp-load"},
		LogDirectory: c.logs + "/" + name,
		Labels:       map[string]string{"crisp-load": "yes"},
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: c.parent},
	}
	config.Linux.SecurityContext = &cri.LinuxSandboxSecurityContext{NamespaceOptions: c.isolate.namespaces(hostNetwork)}
	return config
}

// namespaces of a pod and of its container. With a user namespace kubelet hands out 65,536 ids.
func (i *isolation) namespaces(hostNetwork bool) *cri.NamespaceOption {
	option := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	if hostNetwork {
		option.Network = cri.NamespaceMode_NODE
	}
	if i.userns {
		ids := []*cri.IDMapping{{HostId: 1 << 20, ContainerId: 0, Length: 1 << 16}}
		option.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
	}
	return option
}

func (c *client) containerConfig(hostNetwork bool) *cri.ContainerConfig {
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: c.image},
		Command:  []string{"sleep", "3600"},
		LogPath:  "main.log",
		Linux:    &cri.LinuxContainerConfig{Resources: &cri.LinuxContainerResources{CpuShares: 100}},
	}
	config.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{NamespaceOptions: c.isolate.namespaces(hostNetwork)}
	if c.isolate.seccomp {
		config.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}
	for i, source := range c.isolate.sources {
		mount := &cri.Mount{HostPath: source, ContainerPath: fmt.Sprintf("/mnt/%d", i)}
		if c.isolate.userns {
			mount.UidMappings = config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Uids
			mount.GidMappings = config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Gids
		}
		config.Mounts = append(config.Mounts, mount)
	}
	return config
}

// repeat runs n pod cycles one after the other, every call timed, with a pause before each call.
func (c *client) repeat(n int, r *recorder, pause time.Duration, hostNetwork bool) error {
	for range n {
		if err := c.cycle(r, pause, hostNetwork); err != nil {
			return err
		}
	}
	return nil
}

// cycle is the life of a pod with one container, and the questions that a kubelet asks meanwhile.
func (c *client) cycle(r *recorder, pause time.Duration, hostNetwork bool) error {
	config := c.podConfig(hostNetwork)
	var pod, container string
	spec := &cri.ImageSpec{Image: c.image}
	steps := []struct {
		name string
		call func(context.Context) error
	}{
		{"Version", func(ctx context.Context) error { _, e := c.rt.Version(ctx, &cri.VersionRequest{}); return e }},
		{"Status", func(ctx context.Context) error { _, e := c.rt.Status(ctx, &cri.StatusRequest{}); return e }},
		{"RunPodSandbox", func(ctx context.Context) error {
			resp, e := c.rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
			pod = resp.GetPodSandboxId()
			return e
		}},
		{"", func(ctx context.Context) error { return c.lessPlugins(ctx, pod, r) }},
		{"PodSandboxStatus", func(ctx context.Context) error {
			_, e := c.rt.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod})
			return e
		}},
		{"ImageStatus", func(ctx context.Context) error {
			_, e := c.im.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
			return e
		}},
		{"CreateContainer", func(ctx context.Context) error {
			resp, e := c.rt.CreateContainer(ctx, &cri.CreateContainerRequest{
				PodSandboxId: pod, Config: c.containerConfig(hostNetwork), SandboxConfig: config})
			container = resp.GetContainerId()
			return e
		}},
		{"StartContainer", func(ctx context.Context) error {
			_, e := c.rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container})
			return e
		}},
		{"ContainerStatus", func(ctx context.Context) error {
			_, e := c.rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: container})
			return e
		}},
		{"ExecSync", func(ctx context.Context) error { return c.exec(ctx, container) }},
		{"ReopenContainerLog", func(ctx context.Context) error {
			_, e := c.rt.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: container})
			return e
		}},
		{"ListPodSandbox", func(ctx context.Context) error {
			_, e := c.rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
			return e
		}},
		{"ListContainers", func(ctx context.Context) error {
			_, e := c.rt.ListContainers(ctx, &cri.ListContainersRequest{})
			return e
		}},
		{"ListImages", func(ctx context.Context) error { _, e := c.im.ListImages(ctx, &cri.ListImagesRequest{}); return e }},
		{"ImageFsInfo", func(ctx context.Context) error { _, e := c.im.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{}); return e }},
		{"StopContainer", func(ctx context.Context) error {
			_, e := c.rt.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: container})
			return e
		}},
		{"RemoveContainer", func(ctx context.Context) error {
			_, e := c.rt.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: container})
			return e
		}},
		{"StopPodSandbox", func(ctx context.Context) error {
			_, e := c.rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod})
			return e
		}},
		{"RemovePodSandbox", func(ctx context.Context) error {
			_, e := c.rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod})
			return e
		}},
	}
	for _, step := range steps {
		if step.name == "" { // not measured itself
			if err := step.call(context.Background()); err != nil {
				return err
			}
			continue
		}
		time.Sleep(pause)
		if err := r.time(step.name, step.call); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// lessPlugins records the last RunPodSandbox once more without the time that its CNI plugins took, where the
// runtime tells that (crisp does, in the verbose status).
func (c *client) lessPlugins(ctx context.Context, pod string, r *recorder) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := c.rt.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
	if err != nil {
		return fmt.Errorf("PodSandboxStatus: %w", err)
	}
	var info struct {
		Plugins *time.Duration `json:"cniDurationNs"`
	}
	if json.Unmarshal([]byte(resp.Info["info"]), &info) != nil || info.Plugins == nil {
		return nil
	}
	runs := r.taken["RunPodSandbox"]
	r.taken[runLessPlugins] = append(r.taken[runLessPlugins], runs[len(runs)-1]-*info.Plugins)
	return nil
}

func (c *client) exec(ctx context.Context, container string) error {
	resp, err := c.rt.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"/bin/true"}, Timeout: 30})
	if err == nil && resp.ExitCode != 0 {
		err = fmt.Errorf("/bin/true exited with %d", resp.ExitCode)
	}
	return err
}

// startPod makes a pod with one running container.
func (c *client) startPod() (pod, container string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	config := c.podConfig(false)
	run, err := c.rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", "", err
	}
	create, err := c.rt.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: run.PodSandboxId, Config: c.containerConfig(false), SandboxConfig: config})
	if err != nil {
		return run.PodSandboxId, "", err
	}
	_, err = c.rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: create.ContainerId})
	return run.PodSandboxId, create.ContainerId, err
}

// together runs n jobs, `width` of them at a time; the jobs per second.
func together(n, width int, job func() error) (float64, error) {
	var group sync.WaitGroup
	var left atomic.Int64
	var failure atomic.Pointer[error]
	left.Store(int64(n))
	start := time.Now()
	for range width {
		group.Go(func() {
			for left.Add(-1) >= 0 && failure.Load() == nil {
				if err := job(); err != nil {
					failure.Store(&err)
				}
			}
		})
	}
	group.Wait()
	if e := failure.Load(); e != nil {
		return 0, *e
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func (c *client) podsPerSecond(n int) (map[string]float64, error) {
	result := map[string]float64{}
	for _, width := range []int{1, 4, 8} {
		rate, err := together(max(n, width), width, func() error { _, _, err := c.startPod(); return err })
		c.removeEverything()
		if err != nil {
			return nil, err
		}
		result[fmt.Sprint(width)] = round(rate)
	}
	return result, nil
}

func (c *client) execsPerSecond(n int) (map[string]float64, error) {
	_, container, err := c.startPod()
	defer c.removeEverything()
	if err != nil {
		return nil, err
	}
	result := map[string]float64{}
	for _, width := range []int{1, 4, 8} {
		rate, err := together(n, width, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), callLimit)
			defer cancel()
			return c.exec(ctx, container)
		})
		if err != nil {
			return nil, err
		}
		result[fmt.Sprint(width)] = round(rate)
	}
	return result, nil
}

func (c *client) removeEverything() {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	list, err := c.rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{
		Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{"crisp-load": "yes"}}})
	if err != nil {
		return
	}
	var mutex sync.Mutex
	next := 0
	_, _ = together(len(list.Items), 4, func() error {
		mutex.Lock()
		id := list.Items[next].Id
		next++
		mutex.Unlock()
		_, _ = c.rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
		_, _ = c.rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
		return nil
	})
}
