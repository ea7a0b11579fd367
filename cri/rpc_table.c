// One row for each of the 41 RPCs of the CRI v1 API, in its order (NULL: not implemented yet), and then for
// those of crisp's own service.
#include "api/cri/api.pb-c.h"
#include "api/crisp/images.pb-c.h"
#include "base/cleanup.h"
#include "cri/rpc.h"

#define ROW(service_, name_, request_, response_, stream_, class_, fn_)                                      \
    {                                                                                                        \
        .service = service_, .name = #name_, .request = &cri__##request_##__descriptor,                      \
        .response = &cri__##response_##__descriptor, .stream = stream_, .class = class_, .fn = fn_           \
    }
#define RUNTIME_SERVICE                          "runtime.v1.RuntimeService"
#define IMAGE_SERVICE                            "runtime.v1.ImageService"
#define RUNTIME(name, in, out, class, fn)        ROW(RUNTIME_SERVICE, name, in, out, false, class, fn)
#define RUNTIME_STREAM(name, in, out, class, fn) ROW(RUNTIME_SERVICE, name, in, out, true, class, fn)
#define IMAGE(name, in, out, class, fn)          ROW(IMAGE_SERVICE, name, in, out, false, class, fn)
#define IMAGE_STREAM(name, in, out, class, fn)   ROW(IMAGE_SERVICE, name, in, out, true, class, fn)

#define OWN(name_, request_, response_, stream_, class_, fn_)                                                \
    {                                                                                                        \
        .service = "crisp.v1.Images", .name = #name_, .request = &crisp__##request_##__descriptor,           \
        .response = &crisp__##response_##__descriptor, .stream = stream_, .class = class_, .fn = fn_         \
    }

const struct rpc_method rpc_table[] = {
    RUNTIME(Version, version_request, version_response, RPC_INLINE, rpc_version),
    RUNTIME(RunPodSandbox, run_pod_sandbox_request, run_pod_sandbox_response, RPC_WORK, rpc_run_pod_sandbox),
    RUNTIME(StopPodSandbox, stop_pod_sandbox_request, stop_pod_sandbox_response, RPC_WORK,
            rpc_stop_pod_sandbox),
    RUNTIME(RemovePodSandbox, remove_pod_sandbox_request, remove_pod_sandbox_response, RPC_WORK,
            rpc_remove_pod_sandbox),
    RUNTIME(PodSandboxStatus, pod_sandbox_status_request, pod_sandbox_status_response, RPC_INLINE,
            rpc_pod_sandbox_status),
    RUNTIME(ListPodSandbox, list_pod_sandbox_request, list_pod_sandbox_response, RPC_INLINE,
            rpc_list_pod_sandbox),
    RUNTIME_STREAM(StreamPodSandboxes, stream_pod_sandboxes_request, stream_pod_sandboxes_response, RPC_WORK,
                   rpc_stream_pod_sandboxes),
    RUNTIME(CreateContainer, create_container_request, create_container_response, RPC_WORK,
            rpc_create_container),
    RUNTIME(StartContainer, start_container_request, start_container_response, RPC_WORK, rpc_start_container),
    RUNTIME(StopContainer, stop_container_request, stop_container_response, RPC_WORK, rpc_stop_container),
    RUNTIME(RemoveContainer, remove_container_request, remove_container_response, RPC_WORK,
            rpc_remove_container),
    RUNTIME(ListContainers, list_containers_request, list_containers_response, RPC_INLINE,
            rpc_list_containers),
    RUNTIME_STREAM(StreamContainers, stream_containers_request, stream_containers_response, RPC_WORK,
                   rpc_stream_containers),
    RUNTIME(ContainerStatus, container_status_request, container_status_response, RPC_INLINE,
            rpc_container_status),
    RUNTIME(UpdateContainerResources, update_container_resources_request, update_container_resources_response,
            RPC_WORK, rpc_update_container_resources),
    RUNTIME(ReopenContainerLog, reopen_container_log_request, reopen_container_log_response, RPC_WORK,
            rpc_reopen_container_log),
    RUNTIME(ExecSync, exec_sync_request, exec_sync_response, RPC_WORK, rpc_exec_sync),
    RUNTIME(Exec, exec_request, exec_response, RPC_WORK, NULL),
    RUNTIME(Attach, attach_request, attach_response, RPC_WORK, NULL),
    RUNTIME(PortForward, port_forward_request, port_forward_response, RPC_WORK, NULL),
    RUNTIME(ContainerStats, container_stats_request, container_stats_response, RPC_WORK, rpc_container_stats),
    RUNTIME(ListContainerStats, list_container_stats_request, list_container_stats_response, RPC_WORK,
            rpc_list_container_stats),
    RUNTIME_STREAM(StreamContainerStats, stream_container_stats_request, stream_container_stats_response,
                   RPC_WORK, rpc_stream_container_stats),
    RUNTIME(PodSandboxStats, pod_sandbox_stats_request, pod_sandbox_stats_response, RPC_WORK,
            rpc_pod_sandbox_stats),
    RUNTIME(ListPodSandboxStats, list_pod_sandbox_stats_request, list_pod_sandbox_stats_response, RPC_WORK,
            rpc_list_pod_sandbox_stats),
    RUNTIME_STREAM(StreamPodSandboxStats, stream_pod_sandbox_stats_request, stream_pod_sandbox_stats_response,
                   RPC_WORK, rpc_stream_pod_sandbox_stats),
    RUNTIME(UpdateRuntimeConfig, update_runtime_config_request, update_runtime_config_response, RPC_WORK,
            rpc_update_runtime_config),
    RUNTIME(Status, status_request, status_response, RPC_WORK, rpc_status),
    RUNTIME(CheckpointContainer, checkpoint_container_request, checkpoint_container_response, RPC_WORK, NULL),
    RUNTIME_STREAM(GetContainerEvents, get_events_request, container_event_response, RPC_WORK, NULL),
    RUNTIME(ListMetricDescriptors, list_metric_descriptors_request, list_metric_descriptors_response,
            RPC_WORK, NULL),
    RUNTIME(ListPodSandboxMetrics, list_pod_sandbox_metrics_request, list_pod_sandbox_metrics_response,
            RPC_WORK, NULL),
    RUNTIME_STREAM(StreamPodSandboxMetrics, stream_pod_sandbox_metrics_request,
                   stream_pod_sandbox_metrics_response, RPC_WORK, NULL),
    RUNTIME(RuntimeConfig, runtime_config_request, runtime_config_response, RPC_INLINE, rpc_runtime_config),
    RUNTIME(UpdatePodSandboxResources, update_pod_sandbox_resources_request,
            update_pod_sandbox_resources_response, RPC_WORK, rpc_update_pod_sandbox_resources),
    IMAGE(ListImages, list_images_request, list_images_response, RPC_INLINE, rpc_list_images),
    IMAGE_STREAM(StreamImages, stream_images_request, stream_images_response, RPC_WORK, rpc_stream_images),
    IMAGE(ImageStatus, image_status_request, image_status_response, RPC_INLINE, rpc_image_status),
    IMAGE(PullImage, pull_image_request, pull_image_response, RPC_WORK, rpc_pull_image),
    IMAGE(RemoveImage, remove_image_request, remove_image_response, RPC_WORK, rpc_remove_image),
    IMAGE(ImageFsInfo, image_fs_info_request, image_fs_info_response, RPC_WORK, rpc_image_fs_info),
    OWN(Pull, pull_request, pull_progress, true, RPC_WORK, rpc_crisp_pull),
    OWN(List, list_request, list_response, false, RPC_INLINE, rpc_crisp_list),
    OWN(Prune, prune_request, prune_response, false, RPC_WORK, rpc_crisp_prune),
    {.service = "crisp.v1.Images",
     .name = "Import",
     .request = &crisp__import_request__descriptor,
     .response = &crisp__import_progress__descriptor,
     .stream = true,
     .client_stream = true,
     .class = RPC_WORK,
     .fn = rpc_crisp_import},
    OWN(Export, export_request, export_piece, true, RPC_WORK, rpc_crisp_export),
};
const size_t rpc_table_len = ARRAY_SIZE(rpc_table);
