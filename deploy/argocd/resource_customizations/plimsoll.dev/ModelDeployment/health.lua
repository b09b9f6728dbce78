-- Health of a ModelDeployment for Argo CD. Only the object's own conditions count: Argo CD does not look into children.
local hs = { status = "Progressing", message = "Waiting for Plimsoll to see this generation" }

local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end
if status.observedGeneration == nil or obj.metadata.generation == nil
    or status.observedGeneration < obj.metadata.generation then
  return hs
end

local byType = {}
for _, condition in ipairs(status.conditions) do
  byType[condition.type] = condition
end

local ready = byType["Ready"]
local stalled = byType["Stalled"]

if ready ~= nil and ready.reason == "Suspended" then
  hs.status = "Suspended"
  hs.message = ready.message
elseif ready ~= nil and ready.status == "True" then
  hs.status = "Healthy"
  hs.message = ready.message
elseif stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = stalled.message
elseif ready ~= nil then
  hs.message = ready.message
end
return hs
