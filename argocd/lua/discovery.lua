-- Which actions make sense now. The operator itself refuses what does not, with a sentence in status.lastVerb.
local status = obj.status or {}
local releasing = status.candidate ~= nil
local decided = status.decision ~= nil
local back = decided and status.decision.kind ~= "Promote"
local paused = status.pausedAt ~= nil
local edited = status.editedAt ~= nil
local stable = status.stable ~= nil
local condemned = (status.condemned ~= nil and #status.condemned > 0) or status.pinned ~= nil
local earlier = false
for _, entry in ipairs(status.history or {}) do
  local promoted = entry.completionStatus == "Promoted" or entry.completionStatus == "FastPromoted"
  if stable and promoted and entry.revision ~= status.stable.revision then earlier = true end
end
local undoable = (releasing and stable) or (not releasing and earlier)

local actions = {}
actions["promote"] = { disabled = not releasing or decided, displayName = "Promote: one step on", iconClass = "fa fa-fw fa-step-forward" }
actions["promote-full"] = { disabled = not releasing or decided, displayName = "Promote: to the end", iconClass = "fa fa-fw fa-fast-forward" }
actions["pause"] = { disabled = not releasing or back or paused, displayName = "Pause", iconClass = "fa fa-fw fa-pause" }
actions["resume"] = { disabled = not releasing or back or not (paused or edited), displayName = "Resume", iconClass = "fa fa-fw fa-play" }
actions["abort"] = { disabled = not releasing, displayName = "Abort: all back to stable", iconClass = "fa fa-fw fa-stop" }
actions["retry"] = { disabled = not (condemned or back), displayName = "Retry what was taken back", iconClass = "fa fa-fw fa-redo" }
actions["undo"] = { disabled = not undoable, displayName = "Undo: back to the revision before", iconClass = "fa fa-fw fa-undo" }
return actions
