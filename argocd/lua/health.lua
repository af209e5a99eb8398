-- What Argo CD shows for a ModelDeployment, from what the operator says in status.
local status = obj.status
if status == nil or status.phase == nil then
  return { status = "Progressing", message = "the operator has not looked at it yet" }
end
if status.observedGeneration ~= nil and status.observedGeneration < obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen the latest change yet" }
end
local health = {
  Pending = "Progressing",
  Progressing = "Progressing",
  Paused = "Suspended",
  Healthy = "Healthy",
  Degraded = "Degraded",
}
return { status = health[status.phase] or "Unknown", message = status.message or status.phase }
